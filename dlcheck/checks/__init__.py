"""Claims, one file per claim or close family of claims, foldered by kind."""
