//! `/database-listeners`: ports and sockets of the gateway's host for sessions with databases, opened while it runs. Only
//! people who administer the installation may open one, since all organisations share the host.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Value, json};

use super::context::Context;
use super::error::ApiError;
use super::input::{Input, InputChange};
use super::openapi::Routes;
use super::resource::{self, Changeable, Exposed};
use super::wire::{DatabaseListenerView, FailedListenerView, ReplicaListener};
use keyward_base::codes::Code;
use keyward_base::database::DatabaseProtocol;
use keyward_base::id::OrgId;
use keyward_databases::{
    DATABASE_SOCKETS, ListenerProblem, ListenerStatus, ListenerTerms, OpenPlace, StoredListeners,
};
use keyward_model::{
    Agent, DatabaseListener, DatabaseListenerShown, DatabaseListenerSpec, ListenerPlace,
    ListenerState, NoMembers, Record, Reference, Shown,
};
use keyward_state::directory::View;

/// The text in a URL that means the agent's token.
const TOKEN: &str = "TOKEN";

/// The text in a URL that means the name of a connection.
const CONNECTION: &str = "CONNECTION";

/// What the names of PostgreSQL's sockets begin with. The port follows.
const POSTGRES_SOCKET: &str = ".s.PGSQL.";

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(
            "/database-listeners",
            ["listDatabaseListeners", "List database listeners"],
            resource::list::<DatabaseListener>,
        )
        .post(
            "/database-listeners",
            ["addDatabaseListener", "Open a database listener"],
            resource::add::<DatabaseListener>,
        )
        .get(
            "/database-listeners/{listener}",
            ["getDatabaseListener", "Show a database listener"],
            resource::show::<DatabaseListener>,
        )
        .patch(
            "/database-listeners/{listener}",
            ["changeDatabaseListener", "Change a database listener, which ends its sessions"],
            resource::change::<DatabaseListener>,
        )
        .delete(
            "/database-listeners/{listener}",
            ["removeDatabaseListener", "Close a database listener, and end its sessions"],
            resource::remove::<DatabaseListener>,
        )
}

impl Exposed for DatabaseListener {
    type Added = Shown<Self>;

    fn resolve(context: &Context, spec: &mut DatabaseListenerSpec) -> Result<(), ApiError> {
        resolve_connection(context, spec)?;
        resolve_agent(context, spec)
    }

    fn texts<'a>(_: &'a Context, record: &'a Record<Self>) -> Vec<Cow<'a, str>> {
        vec![record.protocol.as_str().into()]
    }

    async fn shown_facts(context: &Context, record: &Record<Self>) -> DatabaseListenerShown {
        let view = context.view();
        let status = context.deps().database_listeners.status(&record.id);
        let (connection_name, agent_name) = names(record, &view);
        let (state, open_at, problem) = match &status {
            None => (ListenerState::Closed, None, None),
            Some(ListenerStatus { place: Ok(at), .. }) => {
                (ListenerState::Open, Some(at.to_string()), None)
            }
            Some(ListenerStatus { place: Err(problem), .. }) => {
                (ListenerState::Failed, None, Some(problem.to_string()))
            }
        };
        let url = status.as_ref().and_then(client_url);
        DatabaseListenerShown { state, open_at, problem, connection_name, agent_name, url }
    }

    async fn add(context: &Context, input: Input<Self>) -> Result<Shown<Self>, ApiError> {
        // The place is bound before the record is stored, so that a port in use is refused.
        let mut listeners = context.deps().database_listeners.lock().await;
        let bound = listeners.bind(&input.spec.at).await?;
        let made = resource::store_new::<Self>(context, input.spec, NoMembers {}).await?;
        listeners.open(&made.org, &made.id, bound).await;
        Ok(resource::shown(context, &*made).await)
    }

    async fn removed(context: &Context, record: &Record<Self>) -> Result<(), ApiError> {
        context.deps().database_listeners.lock().await.close(&record.id).await;
        Ok(())
    }
}

impl Changeable for DatabaseListener {
    type Changed = Shown<Self>;

    fn resolve_change(
        context: &Context,
        before: &DatabaseListenerSpec,
        spec: &mut DatabaseListenerSpec,
    ) -> Result<(), ApiError> {
        if before.connection != spec.connection || before.protocol != spec.protocol {
            resolve_connection(context, spec)?;
        }
        if before.agent != spec.agent {
            resolve_agent(context, spec)?;
        }
        Ok(())
    }

    async fn change(
        context: &Context,
        record: Arc<Record<Self>>,
        change: InputChange<Self>,
    ) -> Result<Shown<Self>, ApiError> {
        let mut listeners = context.deps().database_listeners.lock().await;
        let place = change.of(&record.spec)?.at;
        let bound = listeners.bind_other(&record.id, &place).await?;
        let changed = resource::store_change(context, &record, &change, |_| {}).await?;
        listeners.open(&changed.org, &changed.id, bound).await;
        Ok(resource::shown(context, &*changed).await)
    }
}

/// Puts the id of the connection in place of its name. Its database must speak the protocol.
fn resolve_connection(context: &Context, spec: &mut DatabaseListenerSpec) -> Result<(), ApiError> {
    let Some(named) = &mut spec.connection else { return Ok(()) };
    let connection = context.connection_to_use(named.as_str());
    let connection = connection.map_err(|error| error.in_field("connection"))?;
    let catalogue = context.deps().vault.catalogue(context.caller.org());
    let provider = catalogue.get(&connection.provider);
    let speaks = provider.and_then(|provider| provider.protocol);
    if speaks != Some(spec.protocol) {
        return Err(ApiError::field(
            "connection",
            match speaks {
                Some(speaks) => format!("is for a database of `{}`", speaks.as_str()),
                None => "is not for a database".to_owned(),
            },
        )
        .hint_if(speaks.map(|speaks| format!("set `protocol` to `{}`", speaks.as_str()))));
    }
    *named = Reference::Id(connection.id.clone());
    Ok(())
}

/// Puts the id of the agent in place of its name.
fn resolve_agent(context: &Context, spec: &mut DatabaseListenerSpec) -> Result<(), ApiError> {
    let Some(named) = &mut spec.agent else { return Ok(()) };
    let agent = resource::mentioned::<Agent>(context, named.as_str());
    let agent = agent.map_err(|error| error.in_field("agent"))?;
    *named = Reference::Id(agent.id.clone());
    Ok(())
}

/// The names of the connection and the agent.
fn names(record: &Record<DatabaseListener>, view: &View) -> (Option<String>, Option<String>) {
    let connection = record.connection.as_ref().and_then(Reference::id);
    let connection = connection.and_then(|id| view.connection(&record.org, id));
    let agent = record.agent.as_ref().and_then(Reference::id);
    let agent = agent.and_then(|id| view.agent(&record.org, id));
    (connection.map(|it| it.name().to_owned()), agent.map(|it| it.name().to_owned()))
}

/// As an item of `listen.databases`, which has no names; `None`: what it refers to does not exist.
pub(super) fn declared(record: &Record<DatabaseListener>, view: &View) -> Option<Value> {
    let (connection, agent) = names(record, view);
    if record.connection.is_some() != connection.is_some()
        || record.agent.is_some() != agent.is_some()
    {
        return None;
    }
    let at = match &record.at {
        ListenerPlace::Tcp(addr) => addr.to_string(),
        ListenerPlace::Socket(name) => format!("unix:{DATABASE_SOCKETS}/{name}"),
    };
    // The organisation of a connection is that of the token.
    let org =
        agent.as_ref().map(|_| record.org.name()).filter(|_| record.org != OrgId::default_org());
    let members = [
        ("at", Some(json!(at))),
        (
            "protocol",
            (record.protocol != DatabaseProtocol::default()).then(|| json!(record.protocol)),
        ),
        ("server_version", record.server_version.as_ref().map(|it| json!(it))),
        ("connection", connection.map(Value::from)),
        ("agent", agent.map(Value::from)),
        ("org", org.map(Value::from)),
    ];
    let members = members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Some(Value::Object(members.collect()))
}

/// As the status of the gateway lists it, if it is open.
pub(super) fn open_view(status: &ListenerStatus) -> Option<DatabaseListenerView> {
    let ListenerTerms { name, protocol, connection, agent, .. } = status.terms.clone();
    let at = status.place.as_ref().ok()?.to_string();
    Some(DatabaseListenerView { at, protocol, connection, agent, name: Some(name) })
}

/// As the status of the gateway lists it, if it cannot be opened.
pub(super) fn failed_view(status: ListenerStatus) -> Option<FailedListenerView> {
    let problem = status.place.err()?.to_string();
    let ListenerTerms { name, place, .. } = status.terms;
    Some(FailedListenerView { name, at: place.to_string(), problem })
}

/// What a replica tells the others about its listeners.
pub(super) fn on_replica(stored: &StoredListeners) -> Vec<ReplicaListener> {
    let listener = |ListenerStatus { terms, place }: ListenerStatus| {
        let (at, problem) = match place {
            Ok(at) => (at.to_string(), None),
            Err(problem) => (terms.place.to_string(), Some(problem.to_string())),
        };
        ReplicaListener { name: terms.name, at, problem }
    };
    stored.statuses().into_iter().map(listener).collect()
}

/// What a program connects with.
fn client_url(status: &ListenerStatus) -> Option<String> {
    let ListenerTerms { protocol, connection, agent, .. } = &status.terms;
    // Names of connections may have characters with another meaning in a URL.
    let encode = |name: &str| form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
    let name = connection
        .as_deref()
        .map_or(CONNECTION.to_owned(), |name| encode(name).replace('+', "%20"));
    match (status.place.as_ref().ok()?, protocol) {
        (OpenPlace::Tcp(at), protocol) => Some(protocol.client_url(*at, &name, TOKEN, "")),
        (OpenPlace::Socket(path), DatabaseProtocol::Postgres) => {
            let port = path.file_name()?.to_str()?.strip_prefix(POSTGRES_SOCKET)?;
            let folder = encode(path.parent()?.to_str()?).replace('+', "%20");
            let password = if agent.is_some() { "" } else { "&password=TOKEN" };
            Some(format!("postgres:///{name}?host={folder}&port={port}&user={name}{password}"))
        }
        (OpenPlace::Socket(_), _) => None,
    }
}

impl From<ListenerProblem> for ApiError {
    fn from(problem: ListenerProblem) -> Self {
        let text = Code::ListenerUnavailable.because(problem.to_string());
        Self::from(text.hint(problem.remedy()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(place: OpenPlace, connection: Option<&str>, agent: Option<&str>) -> ListenerStatus {
        let terms = ListenerTerms {
            org: OrgId::default_org(),
            name: "local".to_owned(),
            place: ListenerPlace::Socket("x".to_owned()),
            protocol: DatabaseProtocol::Postgres,
            server_version: None,
            connection: connection.map(str::to_owned),
            agent: agent.map(str::to_owned),
            problem: None,
        };
        ListenerStatus { terms, place: Ok(place) }
    }

    #[test]
    fn a_url_names_the_connection_and_holds_no_token() {
        let tcp = || OpenPlace::Tcp("127.0.0.1:6432".parse().unwrap());
        let socket = |name: &str| OpenPlace::Socket(["/data/databases", name].iter().collect());
        for (status, expected) in [
            (
                status(tcp(), Some("a b/c"), None),
                Some("postgres://a%20b%2Fc:TOKEN@127.0.0.1:6432/a%20b%2Fc?sslmode=disable"),
            ),
            (
                status(tcp(), None, None),
                Some("postgres://CONNECTION:TOKEN@127.0.0.1:6432/CONNECTION?sslmode=disable"),
            ),
            (
                status(socket(".s.PGSQL.5432"), Some("main"), None),
                Some(
                    "postgres:///main?host=%2Fdata%2Fdatabases&port=5432&user=main&password=TOKEN",
                ),
            ),
            (
                status(socket(".s.PGSQL.5432"), Some("main"), Some("ci")),
                Some("postgres:///main?host=%2Fdata%2Fdatabases&port=5432&user=main"),
            ),
            (status(socket("db.sock"), Some("main"), None), None),
        ] {
            assert_eq!(client_url(&status).as_deref(), expected);
        }
        let failed =
            ListenerStatus { place: Err(ListenerProblem::AgentGone), ..status(tcp(), None, None) };
        assert_eq!(client_url(&failed), None);
        assert!(open_view(&failed).is_none());
        let failed = failed_view(failed).unwrap();
        assert_eq!((&*failed.at, &*failed.problem), ("unix:x", "its agent was removed"));
    }
}
