//! `/find?q=`: what the palette lists: pages, connections and agents.

use axum::Router;
use axum::extract::Query;
use axum::response::Html;
use maud::html;
use serde::Deserialize;

use crate::visible::visible;
use crate::visit::{Console, PageError, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::List;
use keyward_model::{Agent, Connection, Shown};

/// Entries of each kind.
const FOUND: usize = 8;

/// Pages, with words that find them.
const PAGES: &[(&str, &str, &str)] = &[
    ("Connect an account", "/connect", "add new key oauth"),
    ("Overview", "/", "home start"),
    ("Connections", "/connections", "accounts keys"),
    ("Agents", "/agents", "tokens programs"),
    ("Traffic", "/traffic", "live requests log"),
    ("Blocked requests", "/traffic?refused=1", "refused denied"),
    ("Rules", "/rules", "policy allow deny test"),
    ("Plugins", "/plugins", "install manifest"),
    ("Apps", "/apps", "oauth client redirect"),
    ("Services", "/services", "providers catalogue"),
    ("Webhooks", "/webhooks", "events deliveries"),
    ("Hooks", "/incoming", "incoming inbound webhooks of services"),
    ("Database listeners", "/databases", "ports sockets postgres mysql redis mongodb bolt neo4j"),
    ("Secret sources", "/sources", "vault secrets manager"),
    ("Honeytokens", "/honeytokens", "canary alarm"),
    ("Audit", "/audit", "changes verify log"),
    ("People", "/people", "users tokens sessions"),
    ("Settings and health", "/settings", "ca keys version configuration backup store check"),
];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    q: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/find", get(find))
}

/// Whether the reader may see the page.
fn is_for(visit: &Visit, path: &str) -> bool {
    const OF_READERS: [&str; 6] =
        ["/audit", "/honeytokens", "/incoming", "/sources", "/traffic", "/webhooks"];
    let is_of_readers = OF_READERS.iter().any(|page| path.starts_with(page));
    (visit.reads_all() || !is_of_readers) && (visit.may_write() || path != "/connect")
}

async fn find(visit: Visit, Query(asked): Query<PageQuery>) -> Result<Html<String>, PageError> {
    let q = asked.q.trim().to_lowercase();
    let fits = |(name, _, words): &&(&str, &str, &str)| {
        q.is_empty() || name.to_lowercase().contains(&q) || words.contains(q.as_str())
    };
    let mut found: Vec<(String, String, String)> = Vec::new();
    if !q.is_empty() {
        let query = format!("?limit={FOUND}&q={}", segment(&q));
        let connections: List<Shown<Connection>> =
            visit.get(&format!("/connections{query}")).await?;
        found.extend(connections.items.into_iter().map(|it| {
            let path = format!("/connections/{}", segment(&it.spec.name));
            (it.spec.name, path, format!("connection · {}", it.spec.provider))
        }));
        let agents: List<Shown<Agent>> = visit.get(&format!("/agents{query}")).await?;
        found.extend(agents.items.into_iter().map(|it| {
            let path = format!("/agents/{}", segment(&it.spec.name));
            (it.spec.name, path, "agent".to_owned())
        }));
    }
    let pages = PAGES.iter().filter(|(_, path, _)| is_for(&visit, path)).filter(fits).take(FOUND);
    found.extend(
        pages.map(|(name, path, _)| ((*name).to_owned(), (*path).to_owned(), "page".to_owned())),
    );
    let list = html! {
        ul {
            @for (at, (name, path, kind)) in found.iter().enumerate() {
                li role="presentation" { a id=(format!("found-{at}")) role="option" href=(path) { (name) small { (kind) } } }
            }
            @if found.is_empty() { li { span.muted { "Nothing fits." } } }
        }
    };
    Ok(Html(visible(list)))
}
