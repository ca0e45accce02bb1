//! `/rules/explain`: explains what would happen to a request. Policy and dialler explain their own decisions,
//! so that the explanation always agrees with the data path.

mod question;
mod ssh;
mod stop;

use axum::Json;
use futures_util::FutureExt;
use http::HeaderMap;

use self::question::DescribedRequest;
use self::question::{as_agent, in_session};
use super::apps;
use super::body::Body;
use super::context::Context;
use super::error::ApiError;
use super::openapi::Routes;
use super::resource::found;
use super::state::Admin;
use super::valid_rules::ValidRules;
use super::wire::{
    AddressView, ExplainRequest, ExplainedApp, ExplainedConnection, Explanation, PlacementView,
};
use keyward_base::host::{Scheme, Target};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_base::secret::Secret;
use keyward_base::settings::Settings;
use keyward_model::Agent;
use keyward_net::dial::AddressVerdict;
use keyward_net::guard::classify;
use keyward_rules::inject::credential::Write;
use keyward_rules::inject::placement::{Location, Place};
use keyward_rules::inject::template::{Encoding, TemplatePart, ValueTemplate};
use keyward_rules::inject::write::{self, RequestHead, WriteError};
use keyward_rules::policy::explain::{ActionKind, Explanation as Decision};
use keyward_state::directory::AgentRecord;

pub(super) fn routes() -> Routes {
    Routes::new().post(
        "/rules/explain",
        ["explainRequest", "Show what the gateway would do with a request, and why"],
        explain,
    )
}

async fn explain(
    context: Context,
    _: ValidRules,
    Body(ask): Body<ExplainRequest>,
) -> Result<Json<Explanation>, ApiError> {
    if let Some(told) = ssh::explained(&context, &ask).boxed().await? {
        return Ok(Json(told));
    }
    let (mut told, target) = decided(&context, &ask)?;
    if let Some(used) = &mut told.connection {
        look_behind(&context, used).await;
    }
    if told.allowed {
        judge(&context.admin, &target, &mut told).await;
        told.allowed = told.stopped_by.is_empty();
    }
    Ok(Json(told))
}

/// Adds the state of the connection and the source of its tokens.
async fn look_behind(Context { admin, caller }: &Context, used: &mut ExplainedConnection) {
    let view = admin.deps().directory.view();
    let connection = view.connection(caller.org(), &used.id);
    let Some(connection) = connection.filter(|it| caller.sees_connection(it)) else { return };
    used.token = admin.deps().vault.refresh().status(connection).await;
    if let Some(app) = connection.app_id().and_then(|id| view.app(&connection.org, id)) {
        used.app = Some(ExplainedApp {
            name: app.name.clone(),
            redirect_uri: app.redirect_uri(&admin.deps().public_url),
            problem: apps::problem(admin, app).await,
        });
    }
}

/// Explains everything that does not require the network.
pub(super) fn decided(
    context: &Context,
    ask: &ExplainRequest,
) -> Result<(Explanation, Target), ApiError> {
    let admin = &context.admin;
    let record = found::<Agent>(context, &ask.agent)?;
    let agent = match &ask.session {
        None => as_agent(&record),
        Some(session) => in_session(admin, &record, session)?,
    };
    let behind = question::behind(admin, &agent, ask)?;
    let question = DescribedRequest::parse(behind.as_ref().unwrap_or(ask))?;
    let policy = admin.deps().rulebook.current();
    let request = question.query.policy_request();
    let decision = policy.explain(&agent, &request);
    let mut told = explanation(admin, &record, &question, decision);
    // No rule decides for a paused agent, whose bindings are omitted: other reasons have remedies that do not help.
    if admin.deps().directory.view().is_inactive(&record) {
        told.stopped_by = vec![stop::agent_paused(&record)];
    }
    told.allowed = told.stopped_by.is_empty();
    Ok((told, question.query.target))
}

/// The decision, with details that only the services know.
fn explanation(
    admin: &Admin,
    agent: &AgentRecord,
    asked: &DescribedRequest,
    decision: Decision,
) -> Explanation {
    let used = decision.connection_id.as_ref().and_then(|id| used(admin, asked, &agent.org, id));
    let settings = used.as_ref().and_then(|used| used.settings.clone());
    let (mut connection, places) = used.map(|used| (used.connection, used.places)).unzip();
    if let Some(connection) = &mut connection {
        connection.default_over.clone_from(&decision.passed_over);
    }
    let catalogue = admin.deps().vault.catalogue(&agent.org);
    let service = catalogue.owner_of(&asked.query.target.host().to_string());
    let stop = stop::policy(&decision, &agent.name, service.map(|id| &**id)).or_else(|| {
        match decision.action {
            ActionKind::Tunnel => None,
            _ => written(asked, places.as_ref()).err().map(|error| stop::unwritable(&error)),
        }
    });
    Explanation {
        agent: agent.name.clone(),
        method: asked.query.method.to_string(),
        target: asked.query.target.to_string(),
        path: asked.query.path.as_str().to_owned(),
        path_sent: decision.sent_path,
        allowed: false,
        action: decision.action,
        rule: decision.rule,
        host: decision.host,
        connection,
        settings,
        placements: places.flatten().iter().flatten().map(placement).collect(),
        addresses: Vec::new(),
        proxy: None,
        stopped_by: stop.into_iter().collect(),
        considered: decision.considered,
    }
}

/// The connection used by a decision.
struct UsedConnection {
    connection: ExplainedConnection,
    settings: Option<Settings>,
    /// Where its credential would be written for the host and path, if it has a placement there.
    places: Option<Vec<Place>>,
}

/// The connection of the decision.
fn used(
    admin: &Admin,
    asked: &DescribedRequest,
    org: &OrgId,
    id: &ConnectionId,
) -> Option<UsedConnection> {
    let directory = admin.deps().directory.view();
    let connection = directory.connection(org, id)?;
    let used = ExplainedConnection {
        id: connection.id.clone(),
        name: connection.name.clone(),
        provider: connection.provider.clone(),
        default_over: Vec::new(),
        app: None,
        token: None,
        ends: connection.facts.ends,
    };
    let catalogue = admin.deps().vault.catalogue(&connection.org);
    let provider = catalogue.get(&connection.provider);
    let instance = provider.and_then(|provider| {
        let auth = provider.auth(connection.auth.as_deref())?;
        provider.instantiate(auth, &connection.host_variables()).ok()
    });
    let placements = instance.iter().flat_map(|instance| &instance.placements);
    let mut fitting =
        placements.filter(|scoped| scoped.matches(&asked.query.target, &asked.query.path));
    let settings =
        Some(Settings::clone(&connection.settings)).filter(|it| *it != Settings::default());
    let places = fitting.next().map(|scoped| scoped.what.clone());
    Some(UsedConnection { connection: used, settings, places })
}

/// Writes a stand-in for the credential of the connection, with the function that writes credentials.
fn written(asked: &DescribedRequest, used: Option<&Option<Vec<Place>>>) -> Result<(), WriteError> {
    let places = match used {
        None => &[][..],
        Some(places) => places.as_deref().ok_or(WriteError::NoPlace)?,
    };
    let write = |place: &Place| Write { at: place.at.clone(), value: stand_in(&place.value) };
    let writes: Vec<Write> = places.iter().map(write).collect();
    let (mut fields, path) = (HeaderMap::new(), asked.path_sent.clone());
    write::credential(
        &mut RequestHead { fields: &mut fields, path: path.into(), query: None },
        &writes,
    )
}

/// A value in the form of the template, with a letter for each field.
fn stand_in(template: &ValueTemplate) -> Secret {
    let piece = |part: &TemplatePart| match part {
        TemplatePart::Literal(text) => text.to_string(),
        TemplatePart::Field(_) => "x".to_owned(),
    };
    Secret::from(template.parts().iter().map(piece).collect::<String>())
}

fn placement(place: &Place) -> PlacementView {
    let at = match &place.at {
        Location::Header(name) => format!("header {name}"),
        Location::Query(name) => format!("query {name}"),
        Location::QueryString => "query parameters".to_owned(),
        Location::Cookie(name) => format!("cookie {name}"),
        Location::Path(_) => "path".to_owned(),
        Location::Body(path) => format!("body {path}, in JSON or a form"),
        Location::Signature => "signature".to_owned(),
        Location::Login(_) => "login".to_owned(),
    };
    PlacementView { at, value: template(&place.value) }
}

fn template(template: &ValueTemplate) -> String {
    let piece = |part: &TemplatePart| match part {
        TemplatePart::Literal(text) => text.to_string(),
        TemplatePart::Field(name) => format!("{{{name}}}"),
    };
    let text: String = template.parts().iter().map(piece).collect();
    match template.encoding() {
        Encoding::Plain => text,
        Encoding::Basic => format!("Basic base64({text})"),
    }
}

/// Resolves and checks the addresses as dialling would, without connecting. Only for what policy allows: the
/// look-up of a denied name would already reveal something.
async fn judge(admin: &Admin, target: &Target, told: &mut Explanation) {
    let injects = told.action == ActionKind::Inject;
    let cleartext = injects && target.scheme() == Scheme::Http;
    let judged = match admin.deps().dialler.resolve_and_check(target).await {
        Ok(AddressVerdict::Addresses(judged)) => judged,
        Ok(AddressVerdict::ByProxy { proxy }) => {
            told.stopped_by.extend(cleartext.then(stop::cleartext_by_proxy));
            told.proxy = Some(proxy.to_string());
            return;
        }
        Err(error) => return told.stopped_by.push(stop::unreachable(&error)),
    };
    for (address, verdict) in judged {
        let class = classify(address.ip());
        // A credential may be sent in cleartext only to addresses on the private list.
        let exposed = cleartext && verdict.is_ok_and(|address| !address.private());
        told.addresses.push(AddressView {
            address: address.to_string(),
            allowed: verdict.is_ok() && !exposed,
            class: verdict.err().unwrap_or(class).as_str().to_owned(),
        });
    }
    told.stopped_by.extend(stop::addresses(&told.addresses, cleartext));
}
