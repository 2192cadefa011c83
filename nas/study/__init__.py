"""What a study is and how it is kept: settings, records, reading, writing, heartbeats."""
