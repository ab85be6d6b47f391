"""What of tenants lies outside of their database, behind the `TenantStore` port."""
