//! `/streams`: requests, WebSockets and tunnels of agents that are open now. Cutting one ends it at once, as a revocation
//! would; the agent keeps its access.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::body::{Params, Segments};
use super::context::Context;
use super::error::ApiError;
use super::openapi::Routes;
use super::page::Page;
use super::resource;
use super::wire::{List, StreamView};
use keyward_base::host::{Host, Scheme, Target};
use keyward_base::id::ExchangeId;
use keyward_model::Agent;
use keyward_proxy::{Gateway, OpenExchange};
use keyward_state::directory::View;

/// The query of the list. What is absent takes all.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Search {
    /// The agent's name or id.
    agent: Option<String>,
    /// The connection's name or id.
    connection: Option<String>,
    /// The host, with a port or without.
    host: Option<String>,
    /// Part of an id, a host, a path, or the name of an agent, a connection or an end user, any case.
    q: Option<String>,
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<usize>,
    after: Option<String>,
}

/// A host that is searched for, with a port or on every port.
enum HostAsked {
    OnEveryPort(Host),
    OnPort(Target),
}

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(
            "/streams",
            ["listStreams", "List requests, WebSockets and tunnels that are open now"],
            list,
        )
        .delete(
            "/streams/{stream}",
            ["cutStream", "Cut an open request, WebSocket or tunnel; its agent keeps its access"],
            cut,
        )
}

async fn list(
    context: Context,
    Params(search): Params<Search>,
) -> Result<Json<List<StreamView>>, ApiError> {
    let found = |name| resource::found::<Agent>(&context, name);
    let agent = search.agent.as_deref().map(found).transpose()?;
    let connection = search.connection.as_deref();
    let connection = connection.map(|name| context.connection_to_use(name)).transpose()?;
    let host = search.host.as_deref().map(HostAsked::parse).transpose()?;
    let page = Page::of(search.q, search.limit, search.after);
    let view = context.view();
    let found = open(&context, |open| {
        agent.as_ref().is_none_or(|agent| agent.id == open.agent.id)
            && host.as_ref().is_none_or(|host| host.is(open.target()))
            && connection.as_ref().is_none_or(|connection| {
                open.connection.as_ref().is_some_and(|(id, _)| *id == connection.id)
            })
            && is_seen(&context, &view, open)
    });
    let wanted = found.into_iter().filter(|stream| page.wants(&texts(stream)));
    page.cut(wanted.collect(), |stream| stream.id.as_str()).map(Json)
}

async fn cut(context: Context, Segments(id): Segments<String>) -> Result<StatusCode, ApiError> {
    let missing = || ApiError::not_found("stream", &id);
    let exchange = ExchangeId::parse(&id).map_err(|_| missing())?;
    let view = context.view();
    let found = open(&context, |open| open.exchange == exchange && is_seen(&context, &view, open));
    let found = found.first().ok_or_else(missing)?;
    context.caller.record_changed("stream", &found.id, &found.agent);
    let through = found.connection.as_ref().map(|name| format!(" with connection {name}"));
    context.caller.because(format!("{}{}", found.request(), through.unwrap_or_default()));
    let by = context.caller.actor();
    let is_cut = gateway(&context).is_some_and(|it| it.open_exchanges().cut(&exchange, &by));
    if is_cut { Ok(StatusCode::NO_CONTENT) } else { Err(missing()) }
}

/// The gateway; a process without one has no open streams.
fn gateway(context: &Context) -> Option<Arc<Gateway>> {
    context.deps().data_path.upgrade()
}

fn open(context: &Context, wants: impl Fn(&OpenExchange) -> bool) -> Vec<StreamView> {
    let found = gateway(context).map(|it| it.open_exchanges().list(wants)).unwrap_or_default();
    found.into_iter().map(StreamView::of).collect()
}

/// Whether it exists for the caller: they see its agent.
fn is_seen(context: &Context, view: &View, open: &OpenExchange) -> bool {
    let org = context.caller.org();
    open.agent.org == *org
        && view.agent(org, &open.agent.id).is_some_and(|it| context.caller.sees_agent(it))
}

fn texts(stream: &StreamView) -> [&str; 6] {
    [
        stream.id.as_str(),
        &stream.agent,
        stream.connection.as_deref().unwrap_or_default(),
        stream.user.as_deref().unwrap_or_default(),
        &stream.target,
        stream.path.as_deref().unwrap_or_default(),
    ]
}

impl HostAsked {
    fn parse(text: &str) -> Result<Self, ApiError> {
        match (Host::parse(text), Target::parse(Scheme::Https, text)) {
            (Ok(host), _) => Ok(Self::OnEveryPort(host)),
            (Err(_), Ok(target)) => Ok(Self::OnPort(target)),
            (Err(_), Err(_)) => Err(ApiError::field("host", "must be HOST or HOST:PORT")),
        }
    }

    fn is(&self, target: &Target) -> bool {
        match self {
            Self::OnEveryPort(host) => host == target.host(),
            Self::OnPort(asked) => (asked.host(), asked.port()) == (target.host(), target.port()),
        }
    }
}
