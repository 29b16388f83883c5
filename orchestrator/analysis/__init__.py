"""From records to answers: tables, and statistics over seeds."""
