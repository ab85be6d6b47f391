"""Policies in versions, exemptions from them, and the last decisions of each workspace."""

from tenantry.foundation.database.migrations.fencing import drop, fence, run

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    _policies()
    _exemptions_and_decisions()
    for table in ("policies", "exemptions", "policy_decisions"):
        fence(f"tenantry.{table}")


def _policies() -> None:
    run(
        """create table tenantry.policies (
            tenant_id uuid not null references tenantry.tenants on delete cascade,
            policy_id uuid not null,
            workspace_id uuid,
            kind text not null,
            version bigint not null check (version > 0),
            state text not null check (state in ('draft', 'shadow', 'enforced', 'retired')),
            digest text not null,
            document jsonb not null,
            source text not null,
            created_at timestamptz not null,
            created_by text not null,
            changed_at timestamptz not null,
            primary key (tenant_id, policy_id),
            constraint policies_version unique nulls not distinct (tenant_id, workspace_id, kind, version),
            foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
        )""",
        """create unique index policies_live on tenantry.policies (tenant_id, workspace_id, kind, state)
           nulls not distinct where state in ('enforced', 'shadow')""",
    )


def _exemptions_and_decisions() -> None:
    run(
        """create table tenantry.exemptions (
            tenant_id uuid not null references tenantry.tenants on delete cascade,
            exemption_id uuid not null,
            workspace_id uuid,
            kind text not null,
            rule text not null check (rule <> ''),
            owner text not null,
            reason text not null,
            expires_at timestamptz not null,
            created_at timestamptz not null,
            created_by text not null,
            revoked_at timestamptz,
            primary key (tenant_id, exemption_id),
            foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
        )""",
        "create index exemptions_open on tenantry.exemptions (tenant_id, expires_at) where revoked_at is null",
        """create table tenantry.policy_decisions (
            tenant_id uuid not null,
            decision_id uuid not null,
            workspace_id uuid not null,
            at timestamptz not null,
            principal text not null,
            subject jsonb not null,
            verdict text not null,
            layer text,
            rule text,
            reasons jsonb not null,
            shadow_verdict text,
            shadow_rule text,
            shadow_of text,
            primary key (tenant_id, decision_id),
            foreign key (tenant_id, workspace_id) references tenantry.workspaces on delete cascade
        )""",
        """create index policy_decisions_workspace
           on tenantry.policy_decisions (tenant_id, workspace_id, decision_id)""",
    )


def downgrade() -> None:
    drop(("tenantry.policy_decisions", "tenantry.exemptions", "tenantry.policies"))
