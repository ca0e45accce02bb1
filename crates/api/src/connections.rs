//! `/connections`: authenticated accounts at providers. Requests may contain their grants; answers never do.

pub(super) mod activations;
pub(super) mod call;
pub(super) mod connection_change;
pub(super) mod connection_view;
pub(super) mod file;
pub(super) mod flows;
pub(super) mod rotations;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use futures_util::future::join_all;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::body::{Params, Segments};
use super::connection_test::status;
use super::context::Context;
use super::error::ApiError;
use super::etag::{Etag, IfMatch, TaggedAnswer};
use super::input::Input;
use super::openapi::Routes;
use super::resource::mentioned;
use super::wire::{ConnectionCreated, ConnectionRemoved, List, Reconnect};
use super::{context, input, plugins, request_id, resource};
use connection_change::may_refer;
use connection_view::Search;
use connection_view::{view, view_with_warnings, whole_view};
use flows::{begun, takes_consents};
use keyward_base::secret::Secret;
use keyward_model::{
    Connection, ConnectionCreateOptions, ConnectionSpec, ConnectionState, Reference, Shown, User,
};
use keyward_rules::provider::Provider;
use keyward_state::directory::{ConnectionRecord, ManagedBy};
use keyward_vault as vault;
use keyward_vault::oauth::{FlowError, NewMcp, Revoked};

/// The query of a removal.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Removal {
    /// Revoke the grant at the provider as well.
    #[serde(default)]
    revoke: bool,
    /// Undo an addition that was not finished, also if the configuration names the connection.
    #[serde(default)]
    undo: bool,
}

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/connections", ["listConnections", "List connections"], list)
        .post(
            "/connections",
            ["addConnection", "Add a connection, or a draft that needs a consent"],
            add,
        )
        .get("/connections/{connection}", ["getConnection", "Show a connection"], show)
        .patch(
            "/connections/{connection}",
            ["changeConnection", "Change a connection"],
            connection_change::change,
        )
        .delete("/connections/{connection}", ["removeConnection", "Remove a connection"], remove)
        .post(
            "/connections/{connection}/pause",
            ["pauseConnection", "Pause a connection: requests that need it are refused"],
            pause,
        )
        .post(
            "/connections/{connection}/resume",
            ["resumeConnection", "Resume a connection"],
            resume,
        )
}

async fn list(
    context: Context,
    Params(mut asked): Params<Search>,
) -> Result<Json<List<Shown<Connection>>>, ApiError> {
    if let Some(owner) = &mut asked.owner {
        *owner = mentioned::<User>(&context, owner)?.id.to_string();
    }
    let Context { admin, caller } = context;
    let directory = admin.deps().directory.view();
    let finder = asked.finder(admin.deps().clock.now());
    let wanted = directory
        .all::<Connection>(caller.org())
        .filter(|c| caller.sees_connection(c) && finder.wants(c));
    let page = asked.page().cut(wanted.collect(), |connection| &connection.name)?;
    // What is shown of one costs more than to find it among all. A store that does not answer costs the time of one.
    let shown = page.items.into_iter().map(|connection| whole_view(&admin, connection));
    Ok(Json(List { items: join_all(shown).await, next: page.next }))
}

async fn show(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<TaggedAnswer<Shown<Connection>>, ApiError> {
    let connection = context.connection(&name)?;
    let etag = Some(Etag::of(&connection));
    Ok(TaggedAnswer { etag, body: whole_view(&context.admin, &connection).await })
}

/// A connection that needs a consent becomes a draft, and the answer has the next step. If the consent cannot
/// begin, nothing is stored.
async fn add(
    context: Context,
    Input { mut spec, options }: Input<Connection>,
) -> Result<(StatusCode, Json<ConnectionCreated>), ApiError> {
    let Context { admin, caller } = &context;
    let (flows, vault) = (&admin.deps().flows, &admin.deps().vault);
    connection_change::resolve(admin, &mut spec);
    connection_change::name_is_no_key(&context, &spec, &options.fields.secrets)?;
    if options.check_format {
        let method = (&*spec.provider, spec.auth.as_deref());
        input::check_key_formats(&context, method, &options.fields.secrets)?;
    }
    let server = mcp_server(&context, &spec.provider, &options);
    if let Some((_, provider)) = &server {
        fits_mcp_server(&spec, &options, provider.as_deref())?;
    }
    let owner = resource::owner_of_new(&context, options.owner.as_deref())?;
    let visibility = resource::owner_visibility(owner.as_ref(), options.visibility);
    if let Some((url, provider)) = server {
        takes_consents(admin)?;
        let provider = provider.map(|provider| provider.id.to_string());
        let mcp = NewMcp { url, provider, issuer: options.issuer, spec, visibility, owner };
        let draft = flows.add_mcp(caller.org(), mcp).await?;
        return drafted(&context, &draft, options.device).await;
    }
    if options.issuer.is_some() {
        let message = "is only for an MCP server that is connected by a consent";
        return Err(ApiError::field("issuer", message).hint("omit it"));
    }
    spec.references.extend(options.fields.references);
    may_refer(caller, &spec.references)?;
    let (org, fields) = (caller.org().clone(), options.fields.secrets);
    let method = (&*spec.provider, spec.auth.as_deref());
    let has_fields = !fields.is_empty() || !spec.references.is_empty();
    let needs_consent = !has_fields && flows.needs_consent(caller.org(), method.0, method.1);
    let named = spec.app.as_ref().map(Reference::as_str);
    let app = match flows.find_app(&org, method.0, method.1, named) {
        // Given keys of OAuth 1.0a have a consumer of their own.
        Ok(_) if has_fields && !flows.takes_app_with_fields(&org, method.0, method.1) => None,
        Err(FlowError::NoApp { .. })
            if !flows.needs_app(caller.org(), method.0, method.1, has_fields) =>
        {
            None
        }
        found => found?,
    };
    spec.app = app.map(|app| Reference::Id(app.id.clone()));
    let made = vault::NewConnection { org, spec, owner, visibility, managed_by: ManagedBy::Store };
    if needs_consent {
        takes_consents(admin)?;
        let draft = vault.lifecycle().add_draft(made).await?;
        return drafted(&context, &draft, options.device).await;
    }
    let made = given(&context, made, fields, options.test).await?;
    admin.enforce().await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Refuses what has no meaning for an MCP server, which says itself how a client gets access.
fn fits_mcp_server(
    spec: &ConnectionSpec,
    options: &ConnectionCreateOptions,
    provider: Option<&Provider>,
) -> Result<(), ApiError> {
    let fields = &options.fields;
    // A provider of an MCP server has one.
    let method = provider.and_then(|it| it.auth.first()).map_or("oauth", |it| it.id.as_str());
    let given = [
        ("fields", !fields.secrets.is_empty() || !fields.references.is_empty()),
        ("references", !spec.references.is_empty()),
        ("auth", spec.auth.as_deref().is_some_and(|auth| auth != method)),
        ("app", spec.app.is_some()),
        ("variables", !spec.variables.is_empty()),
    ];
    let (message, hint) = match options.url {
        Some(_) => (
            "has no meaning beside `url`",
            "omit it; for a token or an app of your own, declare the server as a provider instead of `url`",
        ),
        None => (
            "has no meaning for an MCP server that is connected by a consent",
            "omit it; for an app of your own, declare the server as a provider without `mcp`",
        ),
    };
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((field, _)) => Err(ApiError::field(field, message).hint(hint)),
        None => Ok(()),
    }
}

/// The URL of an MCP server that is connected, and its provider, if it is one of the catalogue.
fn mcp_server(
    context: &Context,
    provider: &str,
    options: &ConnectionCreateOptions,
) -> Option<(String, Option<Arc<Provider>>)> {
    if let Some(url) = &options.url {
        return Some((url.clone(), None));
    }
    let catalogue = context.deps().vault.catalogue(context.caller.org());
    let provider = catalogue.get(provider)?;
    let url = provider.about.mcp.clone()?;
    // Tokens that another tool has need no consent.
    let fields = &options.fields;
    let has_fields = !fields.secrets.is_empty() || !fields.references.is_empty();
    (!has_fields).then(|| (url, Some(provider.clone())))
}

/// Adds a connection with a given secret. `test`: it becomes active only if the provider accepts the secret.
async fn given(
    context: &Context,
    new: vault::NewConnection,
    fields: BTreeMap<String, Secret>,
    test: bool,
) -> Result<ConnectionCreated, ApiError> {
    let Context { admin, caller } = context;
    let vault = &admin.deps().vault;
    let catalogue = vault.catalogue(&new.org);
    let ignored = catalogue
        .get(&new.spec.provider)
        .and_then(|provider| provider.expand_url(&mut BTreeMap::new(), &mut fields.clone()).ok());
    let ignored = ignored.unwrap_or_default();
    if !test {
        let connection = vault.lifecycle().add(new, fields).await?;
        caller.record_changed("connection", &connection.id, &connection.name);
        let connection = view_with_warnings(admin, &connection).await;
        return Ok(ConnectionCreated { connection, consent: None, test: None, ignored });
    }
    let draft = vault.lifecycle().add_untested(new, fields).await?;
    caller.record_changed("connection", &draft.id, &draft.name);
    let context = context.clone();
    let begun = async move { activations::begun(&context, &draft, true).await };
    // Runs to its end even if the caller disconnects: else the draft would stay in testing.
    let begun = request_id::spawn(begun).await;
    let begun = begun.unwrap_or_else(|error| Err(ApiError::internal(error)))?;
    Ok(ConnectionCreated { ignored, ..begun })
}

async fn drafted(
    context: &Context,
    draft: &ConnectionRecord,
    device: bool,
) -> Result<(StatusCode, Json<ConnectionCreated>), ApiError> {
    let Context { admin, caller } = context;
    caller.record_changed("connection", &draft.id, &draft.name);
    let begun = begun(context, draft, Reconnect { device, ..Reconnect::default() }).await;
    let consent = match begun {
        Ok(consent) => consent,
        Err(refused) => {
            admin.deps().vault.lifecycle().remove(caller.org(), &draft.id).await?;
            return Err(refused);
        }
    };
    admin.enforce().await?;
    let connection = view(admin, draft);
    let (consent, ignored) = (Some(consent), Vec::new());
    let made = ConnectionCreated { connection, consent, test: None, ignored };
    Ok((StatusCode::CREATED, Json(made)))
}

async fn remove(
    context: Context,
    Segments(name): Segments<String>,
    Params(removal): Params<Removal>,
    if_match: IfMatch,
) -> Result<Json<ConnectionRemoved>, ApiError> {
    let Context { admin, caller } = &context;
    let connection = context.connection(&name)?;
    // Its grant may be revoked at the provider before the record is removed, so this is the last moment to refuse.
    if_match.check(&connection)?;
    // A connection that the configuration declares is refused as such.
    let facts = &connection.facts;
    let is_paused = facts.state == ConnectionState::Paused && !facts.held;
    if !removal.undo && (is_paused || connection.managed_by == ManagedBy::Store) {
        resource::may_be_removed(admin, &connection).await?;
    }
    let flows = &admin.deps().flows;
    let plugins = plugins::affected(&context, &connection);
    let revoked = flows.disconnect(caller.org(), &connection.id, removal.revoke).await?;
    admin.enforce().await?;
    let told = |revoked_upstream| ConnectionRemoved {
        revoked_upstream,
        plugins: plugins.clone(),
        ..Default::default()
    };
    Ok(Json(match revoked {
        None => told(None),
        Some(Revoked::Yes) => told(Some(true)),
        Some(Revoked::Later { until, why }) => {
            ConnectionRemoved { until: Some(until), why, ..told(Some(false)) }
        }
        Some(Revoked::No(why)) => ConnectionRemoved { why: Some(why), ..told(Some(false)) },
        Some(Revoked::NotSupported { by_hand }) => ConnectionRemoved { by_hand, ..told(None) },
    }))
}

/// Agents get 424 from now on, and running requests with its credential end.
async fn pause(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<Json<Shown<Connection>>, ApiError> {
    set_paused(&context, &name, true).await
}

async fn resume(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<Json<Shown<Connection>>, ApiError> {
    set_paused(&context, &name, false).await
}

/// A broken connection stays broken, with two exceptions: a secret that a test rejected is used again, and a
/// rejected client is tried again by the next request.
async fn set_paused(
    context: &Context,
    name: &str,
    paused: bool,
) -> Result<Json<Shown<Connection>>, ApiError> {
    let Context { admin, caller } = context;
    let (directory, org) = (&admin.deps().directory, caller.org());
    let before = context.connection(name)?;
    let id = before.id.clone();
    let mut connection =
        directory.set_connection_paused(org, &id, paused, ManagedBy::Store).await?;
    let vault = &admin.deps().vault;
    if !paused && status::is_rejected_by_test(&before) {
        vault.refresh().ignore_test(org, &id).await?;
        connection = context.connection(name)?;
    }
    if !paused && vault.refresh().try_again(org, &id).await? {
        connection = context.connection(name)?;
    }
    admin.enforce().await?;
    let what = if paused { "paused" } else { "resumed" };
    context::publish_change(context, &connection, what, "by request").await;
    Ok(Json(view(admin, &connection)))
}
