"""The steps of a script, by what they are about; each knows its own facts."""
