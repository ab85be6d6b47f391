"""The fence itself: signed context, tenant state, and what the roles may not do (ADR 0004)."""

from tenantry.foundation.database.migrations.fencing import run, schema, shared

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
# Lifecycle work ('p') passes what suspends or drains a tenant, never what says that its rows are elsewhere or on their
# way: what it wrote there would be lost. It may look for a tenant that is not here, not write to one: whatever comes
# late would stay behind for ever of one that was erased.
_STATE = """
        select {mode} into state from fence.tenant_state s where s.tenant_id = substr(ctx, 77, 32)::uuid;
        if state is distinct from 'active'
           and (substr(ctx, 66, 1) <> 'p' or state in ('moved', 'read_only') {lost})
        then
            case state
                when 'read_only', 'draining' then {read_only}
                when 'suspended', 'deleted' then
                    raise exception 'tenant is %', state using errcode = 'TN001';
                when 'moved' then
                    raise exception 'tenant has moved' using errcode = 'TN005';
                else
                    raise exception 'tenant is not in this cell' using errcode = 'TN004';
            end case;
        end if;
        return substr(ctx, 77, 32)::uuid;
    end
"""
_LIFECYCLE = """
        if substr(ctx, 66, 1) <> 'p' then
            raise exception 'only lifecycle work may do this' using errcode = 'TN003';
        end if;
"""
_RAISE_READ_ONLY = "raise exception 'tenant is read-only' using errcode = 'TN002';"
# `shared_mode` is kept beside the mode so that the check of the shared tables reads one column.
_IN_SCHEMA = "case when s.home = place then s.mode else 'moved' end"
_READ = {"read_only": "null;", "lost": ""}
_WRITTEN = {"read_only": _RAISE_READ_ONLY, "lost": "or state is null"}
_TENANTS = (
    ("tenant()", "s.shared_mode", _READ),
    ("writable_tenant()", "s.shared_mode", _WRITTEN),
    ("tenant_here()", "s.mode", _READ),
    ("writable_tenant_here()", "s.mode", _WRITTEN),
    ("tenant_in(place text)", _IN_SCHEMA, _READ),
    ("writable_tenant_in(place text)", _IN_SCHEMA, _WRITTEN),
)
# One row a tenant, which says in which schema of this database it is at home, and what may be done there.
_SET_STATE = f"""{_VERIFY}{_LIFECYCLE}
        select s.mode into state from fence.tenant_state s where s.tenant_id = substr(ctx, 77, 32)::uuid for update;
        if state = 'read_only' then
            {_RAISE_READ_ONLY}
        elsif state = 'moved' then
            raise exception 'tenant has moved' using errcode = 'TN005';
        end if;
        insert into fence.tenant_state as s (tenant_id, mode, home)
            values (substr(ctx, 77, 32)::uuid, new_mode, new_home)
            on conflict (tenant_id) do update set mode = excluded.mode, epoch = s.epoch + 1
            returning s.epoch into ahead;
        return ahead;
    end
"""
_PLACE = f"""{_VERIFY}{_LIFECYCLE}
        insert into fence.tenant_state as s (tenant_id, mode, home)
            values (substr(ctx, 77, 32)::uuid, new_mode, new_home)
            on conflict (tenant_id) do update set mode = excluded.mode, home = excluded.home, epoch = s.epoch + 1
            returning s.epoch into ahead;
        return ahead;
    end
"""
_STATE_OF = f"""{_VERIFY}{_LIFECYCLE}
        return (select s.mode || ' ' || s.home from fence.tenant_state s
                where s.tenant_id = substr(ctx, 77, 32)::uuid);
    end
"""
_FORGET = f"""{_VERIFY}{_LIFECYCLE}
        delete from fence.tenant_state s where s.tenant_id = substr(ctx, 77, 32)::uuid;
        return substr(ctx, 77, 32)::uuid;
    end
"""


def _function(name: str, body: str, *, returns: str = "uuid", volatility: str = "stable parallel safe") -> str:
    return (
        f"create function fence.{name} returns {returns} language plpgsql {volatility} security definer "
        f"set search_path = fence, pg_catalog, pg_temp as $function$ {body} $function$"
    )


def upgrade() -> None:
    run(f"grant usage on schema {schema()} to tenantry_app, tenantry_dispatcher, tenantry_sealer, tenantry_mover")
    if not shared():
        return
    run(
        """create table fence.context_keys (
            key_id text primary key check (length(key_id) = 1),
            inner_pad bytea not null,
            outer_pad bytea not null
        )""",
        """create table fence.tenant_state (
            tenant_id uuid primary key,
            mode text not null check (mode in ('active', 'draining', 'read_only', 'suspended', 'moved', 'deleted')),
            home text not null,
            shared_mode text not null
                generated always as (case when home = 'tenantry' then mode else 'moved' end) stored,
            epoch bigint not null default 1
        )""",
        *(_function(name, _VERIFY + _STATE.format(mode=mode, **clauses)) for name, mode, clauses in _TENANTS),
        # Verifies for itself, which costs 13 µs: a statement may change the setting after `tenant()` has read it, by
        # `where job_id = (select set_config('app.ctx', …))`, which the planner evaluates before this policy.
        _function("workspace()", f"{_VERIFY} return nullif(substr(ctx, 109), '*')::uuid; end"),
        # What the mover's role sees: the tenant of a lifecycle context, in whatever state and place.
        _function("moved_tenant()", f"{_VERIFY}{_LIFECYCLE} return substr(ctx, 77, 32)::uuid; end"),
        # Only lifecycle contexts may change the state, and only their own tenant's.
        _function(
            "set_tenant_state(new_mode text, new_home text)", _SET_STATE, returns="bigint", volatility="volatile"
        ),
        _function("place_tenant(new_mode text, new_home text)", _PLACE, returns="bigint", volatility="volatile"),
        _function("state_of_tenant()", _STATE_OF, returns="text"),
        _function("forget_tenant()", _FORGET, volatility="volatile"),
        "revoke all on all functions in schema fence from public",
        "grant usage on schema fence to tenantry_app, tenantry_dispatcher, tenantry_sealer, tenantry_mover",
        "grant execute on function fence.tenant(), fence.writable_tenant(), fence.tenant_here(), "
        "fence.writable_tenant_here(), fence.tenant_in(text), fence.writable_tenant_in(text), fence.workspace(), "
        "fence.set_tenant_state(text, text) to tenantry_app",
        "grant execute on function fence.moved_tenant(), fence.place_tenant(text, text), fence.state_of_tenant(), "
        "fence.forget_tenant() to tenantry_mover",
    )


def downgrade() -> None:
    run(
        "drop function fence.forget_tenant()",
        "drop function fence.state_of_tenant()",
        "drop function fence.place_tenant(text, text)",
        "drop function fence.set_tenant_state(text, text)",
        "drop function fence.moved_tenant()",
        "drop function fence.workspace()",
        "drop function fence.writable_tenant_in(text)",
        "drop function fence.tenant_in(text)",
        "drop function fence.writable_tenant_here()",
        "drop function fence.tenant_here()",
        "drop function fence.writable_tenant()",
        "drop function fence.tenant()",
        "drop table fence.tenant_state",
        "drop table fence.context_keys",
    )
