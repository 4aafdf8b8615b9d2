"""Files, folders and bundles that appear whole, locally or in an object store."""
