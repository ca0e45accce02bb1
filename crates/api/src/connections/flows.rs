//! `/flows` and reconnecting: consents, as their owners start, list, and cancel them. Agents have no access.

use axum::Json;
use schemars::JsonSchema;
use serde::Deserialize;

use super::connection_view::view;
use crate::body::{Body, Params, Segments};
use crate::context::Context;
use crate::error::ApiError;
use crate::openapi::Routes;
use crate::page::Page;
use crate::state::Admin;
use crate::wire::{ConnectionCreated, ConsentView, FlowDecision, List, OpenConsent, Reconnect};
use keyward_base::id::FlowId;
use keyward_state::directory::ConnectionRecord;
use keyward_vault::oauth::{ConsentRequest, DeviceCode, FlowError, FlowView, Started};

/// The name of the operator, who owns consents without a user.
const OPERATOR: &str = "the operator of this gateway";

pub(crate) fn routes() -> Routes {
    Routes::new()
        .get("/flows", ["listFlows", "List consents in progress"], list)
        .get("/flows/{flow}", ["getFlow", "Show a consent"], show)
        .post("/flows/{flow}/cancel", ["cancelFlow", "Cancel a consent"], cancel)
        .post(
            "/flows/{flow}/confirm",
            ["confirmFlow", "Decide about a consent of another account"],
            confirm,
        )
        .post(
            "/connections/{connection}/reconnect",
            ["reconnectConnection", "Begin a new consent for a connection"],
            reconnect,
        )
}

/// The query of a list.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FlowQuery {
    /// Only consents of this connection, by name or id.
    connection: Option<String>,
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<usize>,
    after: Option<String>,
}

/// Lists the open consents of connections that the caller may change.
async fn list(
    context: Context,
    Params(asked): Params<FlowQuery>,
) -> Result<Json<List<OpenConsent>>, ApiError> {
    let Context { admin, caller } = &context;
    let one = asked.connection.map(|name| context.connection(&name)).transpose()?;
    let directory = context.view();
    let mut items = Vec::new();
    for flow in admin.deps().flows.open_consents(caller.org()).await? {
        let Some(connection) = directory.connection(caller.org(), &flow.connection) else {
            continue;
        };
        let is_wanted = one.as_ref().is_none_or(|one| one.id == connection.id);
        let is_theirs = caller.sees_connection(connection) && caller.may_change(connection).is_ok();
        if is_wanted && is_theirs {
            items.push(OpenConsent { name: connection.name.clone(), flow });
        }
    }
    let page = Page::of(None, asked.limit, asked.after);
    page.cut(items, |item| item.flow.id.as_str()).map(Json)
}

/// Cancels an unfinished consent. An active connection keeps its grant.
async fn cancel(
    context: Context,
    Segments(flow): Segments<String>,
) -> Result<Json<FlowView>, ApiError> {
    let id = parsed(&flow)?;
    seen(&context, &id).await?;
    let cancelled = context.deps().flows.cancel(context.caller.org(), &id).await?;
    context.admin.enforce().await?;
    Ok(Json(cancelled))
}

async fn show(
    context: Context,
    Segments(flow): Segments<String>,
) -> Result<Json<FlowView>, ApiError> {
    seen(&context, &parsed(&flow)?).await.map(Json)
}

async fn confirm(
    context: Context,
    Segments(flow): Segments<String>,
    Body(decision): Body<FlowDecision>,
) -> Result<Json<FlowView>, ApiError> {
    let id = parsed(&flow)?;
    seen(&context, &id).await?;
    let (flows, org) = (&context.deps().flows, context.caller.org());
    let decided = flows.confirm(org, &id, None, decision.accept).await?;
    context.admin.enforce().await?;
    Ok(Json(decided))
}

/// A consent, if the caller may see its connection.
async fn seen(context: &Context, id: &FlowId) -> Result<FlowView, ApiError> {
    let caller = &context.caller;
    let none = || ApiError::not_found("consent", id.as_str());
    let view = context.deps().flows.view(caller.org(), id).await.map_err(|error| match error {
        FlowError::NoFlow => none(),
        error => error.into(),
    })?;
    let directory = context.view();
    match directory.connection(caller.org(), &view.connection) {
        Some(connection) if caller.sees_connection(connection) => {
            caller.record_changed("connection", &connection.id, &connection.name);
            caller.may_change(connection)?;
            Ok(view)
        }
        // If it was removed, only callers who see everything may see its consents.
        None if caller.sees_all() => Ok(view),
        _ => Err(none()),
    }
}

/// Starts a consent for an existing connection, which keeps working until the new grant is stored.
async fn reconnect(
    context: Context,
    Segments(name): Segments<String>,
    Body(ask): Body<Reconnect>,
) -> Result<Json<ConnectionCreated>, ApiError> {
    let connection = context.connection(&name)?;
    let consent = begun(&context, &connection, ask).await?;
    let connection = view(&context.admin, &connection);
    let ignored = Vec::new();
    Ok(Json(ConnectionCreated { connection, consent: Some(consent), test: None, ignored }))
}

/// Starts a flow for a connection.
///
/// # Errors
/// When this gateway takes no consents, or the flow cannot begin.
pub(crate) async fn begun(
    Context { admin, caller }: &Context,
    connection: &ConnectionRecord,
    ask: Reconnect,
) -> Result<ConsentView, ApiError> {
    takes_consents(admin)?;
    let Reconnect { device, scopes: more_scopes, register } = ask;
    let person = caller.user().map_or_else(|| OPERATOR.to_owned(), |user| user.id.to_string());
    let ask = ConsentRequest { person, device, more_scopes, register, hold: false };
    let started = admin.deps().flows.start(caller.org(), connection, ask).await?;
    Ok(match started {
        Started::Browser { flow, url } => ConsentView::page(flow, url),
        Started::Device { flow, code } => consent_view(flow, code),
    })
}

/// Refuses on a gateway started by `run`, which ends with its runs and could not handle the browser's return.
///
/// # Errors
/// When it is such a gateway.
pub(crate) fn takes_consents(admin: &Admin) -> Result<(), ApiError> {
    match admin.runs().is_private() {
        false => Ok(()),
        true => Err(ApiError::refused(
            "this gateway belongs to `keyward run` and ends with it: it accepts no consents",
        )
        .hint("start a gateway that keeps running: keyward serve")),
    }
}

fn consent_view(flow: FlowId, code: DeviceCode) -> ConsentView {
    ConsentView {
        flow,
        authorize_url: None,
        user_code: Some(code.user_code),
        verification_uri: Some(code.verification_uri),
        verification_uri_complete: code.verification_uri_complete,
        expires: Some(code.expires),
    }
}

fn parsed(flow: &str) -> Result<FlowId, ApiError> {
    FlowId::parse(flow).map_err(|_| ApiError::not_found("consent", flow))
}

impl From<FlowError> for ApiError {
    fn from(error: FlowError) -> Self {
        let message = error.to_string();
        let hint = error.hint();
        match error {
            FlowError::NoFlow => Self::not_found("consent", ""),
            FlowError::UnknownApp { .. } => Self::NotFoundIn { field: "app".into(), message, hint },
            FlowError::WhichApp { .. } => Self::field("app", message).hint_if(hint),
            FlowError::NothingToConfirm => Self::Prevented { message, hint },
            FlowError::Form(_) => Self::field("variables", message),
            FlowError::Directory(error) => error.into(),
            FlowError::Vault(error) => error.into(),
            FlowError::Row(error) => Self::internal(error),
            _ => Self::refused(message).hint_if(hint),
        }
    }
}
