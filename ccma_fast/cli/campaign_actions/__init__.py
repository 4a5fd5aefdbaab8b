"""The actions of ``ccma-fast campaign``, one file each."""
