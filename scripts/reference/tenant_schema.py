"""`python -m scripts.reference.tenant_schema` writes the JSON Schema of declared tenants from their model."""

from pathlib import Path
from typing import Final

from tenantry.capabilities.tenants.service.declared import render_schema

FILE: Final = Path(__file__).parents[2] / "src" / "tenantry" / "capabilities" / "tenants" / "tenant.schema.json"

if __name__ == "__main__":
    FILE.write_text(render_schema(), encoding="utf-8")
