"""Files, folders and bundles that appear completely or not at all, locally or in object stores."""
