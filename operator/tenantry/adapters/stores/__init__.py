"""Object stores and folders, by obstore; and the encryption of what goes into them."""
