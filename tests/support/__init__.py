"""What tests of several kinds share: doors that kill and count, numbered entries, child processes, small logs."""
