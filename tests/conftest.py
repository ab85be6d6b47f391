"""What every test shares: an environment without the developer's own settings."""

import os

for name in [name for name in os.environ if name.startswith("TENANTRY_")]:
    del os.environ[name]
