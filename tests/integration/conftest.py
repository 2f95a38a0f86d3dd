pytest_plugins = ["integration.apiserver", "integration.object_stores", "integration.operator_rig"]
