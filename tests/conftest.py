pytest_plugins = ["integration.apiserver", "integration.object_stores"]
