"""The migrator: moves memories from one vector space to another while they are read and written."""
