"""A case in a page: pictures at once, and every slice where a script may run. No request, no library."""
