"""What all test rooms share: the plugin that starts test servers when the first test asks for them."""

pytest_plugins = ("tests.controlplane.plugin",)
