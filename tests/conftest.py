pytest_plugins = ["integration.apiserver"]
