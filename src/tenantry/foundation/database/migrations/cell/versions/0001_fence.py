"""The fence itself: signed context, tenant state, and what the roles may not do (ADR 0004)."""

from tenantry.foundation.database.migrations.fencing import run

revision = "0001"
down_revision = None

# Layout in foundation/database/context.py: mac(64) key(1) purpose(1) expiry(10) tenant(32) workspace(32 or '*').
# `sha256()` is built in; the embedded server has no pgcrypto. STABLE and called as `(select fence.tenant())`, so it
# runs once a statement. No context at all means no rows; a bad one is an error, as nothing honest sends it.
_VERIFY = """
    declare
        ctx text := current_setting('app.ctx', true);
        keys fence.context_keys;
        body bytea;
        state text;
        ahead bigint;
    begin
        if ctx is null or ctx = '' then
            return null;
        end if;
        body := convert_to(substr(ctx, 65), 'UTF8');
        select k.key_id, k.inner_pad, k.outer_pad into keys
            from fence.context_keys k where k.key_id = substr(ctx, 65, 1);
        if not found
           or encode(sha256(keys.outer_pad || sha256(keys.inner_pad || body)), 'hex')
               is distinct from substr(ctx, 1, 64)
        then
            raise exception 'tenant context is not signed' using errcode = 'TN003';
        end if;
        ahead := substr(ctx, 67, 10)::bigint - floor(extract(epoch from transaction_timestamp()));
        if ahead < 0 or ahead > 60 then
            raise exception 'tenant context has expired' using errcode = 'TN003';
        end if;
"""
_STATE = """
        if substr(ctx, 66, 1) <> 'p' then
            select s.mode into state from fence.tenant_state s where s.tenant_id = substr(ctx, 77, 32)::uuid;
            if state is distinct from 'active' then
                case state
                    when 'read_only' then {read_only}
                    when 'suspended', 'deleted' then
                        raise exception 'tenant is %', state using errcode = 'TN001';
                    else
                        raise exception 'tenant is not in this cell' using errcode = 'TN004';
                end case;
            end if;
        end if;
"""
_RAISE_READ_ONLY = "raise exception 'tenant is read-only' using errcode = 'TN002';"


def _function(name: str, body: str, *, volatility: str = "stable parallel safe") -> str:
    return (
        f"create function fence.{name} language plpgsql {volatility} security definer "
        f"set search_path = fence, pg_catalog, pg_temp as $function$ {body} $function$"
    )


def upgrade() -> None:
    run(
        """create table fence.context_keys (
            key_id text primary key check (length(key_id) = 1),
            inner_pad bytea not null,
            outer_pad bytea not null
        )""",
        """create table fence.tenant_state (
            tenant_id uuid primary key,
            mode text not null check (mode in ('active', 'read_only', 'suspended', 'moved', 'deleted')),
            epoch bigint not null default 1
        )""",
        _function(
            "tenant() returns uuid",
            f"{_VERIFY}{_STATE.format(read_only='null;')} return substr(ctx, 77, 32)::uuid; end",
        ),
        _function(
            "writable_tenant() returns uuid",
            f"{_VERIFY}{_STATE.format(read_only=_RAISE_READ_ONLY)} return substr(ctx, 77, 32)::uuid; end",
        ),
        # Verifies for itself, which costs 13 µs: a statement may change the setting after `tenant()` has read it, by
        # `where job_id = (select set_config('app.ctx', …))`, which the planner evaluates before this policy.
        _function(
            "workspace() returns uuid",
            f"{_VERIFY} return nullif(substr(ctx, 109), '*')::uuid; end",
        ),
        # Only lifecycle contexts may change the state, and only their own tenant's.
        _function(
            "set_tenant_state(new_mode text) returns bigint",
            f"""{_VERIFY}
            if substr(ctx, 66, 1) <> 'p' then
                raise exception 'only lifecycle work changes a tenant''s state' using errcode = 'TN003';
            end if;
            insert into fence.tenant_state as s (tenant_id, mode) values (substr(ctx, 77, 32)::uuid, new_mode)
                on conflict (tenant_id) do update set mode = excluded.mode, epoch = s.epoch + 1
                returning s.epoch into ahead;
            return ahead;
            end""",
            volatility="volatile",
        ),
        "revoke all on all functions in schema fence from public",
        "grant usage on schema fence, tenantry to tenantry_app, tenantry_dispatcher, tenantry_sealer, tenantry_mover",
        "grant execute on function fence.tenant(), fence.writable_tenant(), fence.workspace(), "
        "fence.set_tenant_state(text) to tenantry_app",
    )


def downgrade() -> None:
    run(
        "drop function fence.set_tenant_state(text)",
        "drop function fence.workspace()",
        "drop function fence.writable_tenant()",
        "drop function fence.tenant()",
        "drop table fence.tenant_state",
        "drop table fence.context_keys",
    )
