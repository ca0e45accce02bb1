//! Checks apps that connections use: missing settings, and registrations at the provider that expire.

use jiff::{SignedDuration, Timestamp};

use super::installation::{CheckedInstallation, Resources};
use super::installation::{not_fetched, source_remedy};
use super::report::DoctorReport;
use crate::cli::client::Client;
use crate::cli::settings::Global;
use crate::cli::terminal::table::moment;
use keyward_model::{App, Connection, Shown};

const APPS: &str = "apps";

/// Warning time before an expiry: long enough for holidays.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Reads the apps; an installation without apps has no report.
pub(super) async fn check(
    install: &CheckedInstallation<'_>,
    client: &Client,
    resources: &mut Resources,
    report: &mut DoctorReport,
) {
    match client.list::<Shown<App>>("/api/v1/apps", &[]).await {
        Ok(apps) => {
            resources.apps = apps.items;
            check_all(resources, install.global, Timestamp::now(), report);
        }
        Err(failure) => {
            let hint = failure.advice().unwrap_or("see the gateway's log");
            report.fail(APPS, failure.message(), hint);
        }
    }
}

fn check_all(resources: &Resources, global: &Global, now: Timestamp, report: &mut DoctorReport) {
    let before = report.checks.len();
    for app in &resources.apps {
        check_app(app, resources, global, now, report);
    }
    for connection in &resources.connections {
        check_end(connection, global, now, report);
    }
    if !resources.apps.is_empty() && report.checks.len() == before {
        report.ok(APPS, format!("every app is usable ({})", resources.apps.len()));
    }
}

fn check_app(
    app: &Shown<App>,
    resources: &Resources,
    global: &Global,
    now: Timestamp,
    report: &mut DoctorReport,
) {
    let name = &app.name;
    // An app without connections sends no requests, and may stay removed from the file.
    let is_used = !app.facts.connections.is_empty();
    if let Some(problem) = app.facts.problem.as_ref().filter(|_| is_used) {
        let hint = match app.facts.paused {
            true => "add it to the configuration again".to_owned(),
            false if !app.references.is_empty() => {
                source_remedy(app.references.values().next(), global)
            }
            false => format!("{} app set {name} --secret-stdin client_secret", global.keyward()),
        };
        report.fail(APPS, problem, hint);
    }
    if let (None, Some(failing)) = (&app.facts.problem, &app.facts.fetch_failing) {
        let message = format!(
            "the secret of app {name} {}",
            not_fetched(failing, app.facts.fetched.as_ref())
        );
        report.warn(APPS, message, source_remedy(app.references.values().next(), global));
    }
    let ends = app.facts.registered.as_ref().and_then(|registered| registered.expires);
    if let Some(ends) =
        ends.filter(|ends| is_used && *ends < now.saturating_add(SOON).unwrap_or(now))
    {
        let message = format!("the registration of app {name} expires {}", moment(ends));
        let first = app.facts.connections.first();
        let first = resources.connections.iter().find(|it| Some(&it.name) == first);
        report.warn(APPS, message, first.map_or_else(String::new, |it| remedy(it, global)));
    }
}

/// Warns about a connection that must soon be reconnected.
fn check_end(
    connection: &Shown<Connection>,
    global: &Global,
    now: Timestamp,
    report: &mut DoctorReport,
) {
    let until = now.saturating_add(SOON).unwrap_or(now);
    let Some(ends) = connection.facts.ends.filter(|ends| *ends < until) else { return };
    let name = &connection.name;
    let message = format!("connection {name} must be reconnected before {}", moment(ends));
    report.warn(APPS, message, remedy(connection, global));
}

fn remedy(connection: &Shown<Connection>, global: &Global) -> String {
    connection.facts.remedy.as_deref().map(|remedy| global.remedy(remedy)).unwrap_or_default()
}

/// Details for a connection that does not work: its app and redirect URI.
pub(super) fn app_details(connection: &Shown<Connection>, apps: &[Shown<App>]) -> String {
    let app = connection.app_id();
    let app = app.and_then(|id| apps.iter().find(|app| app.id == *id));
    app.map_or_else(String::new, |app| {
        format!(
            "; its app {} must have this redirect URI at the provider: {}",
            app.name, app.facts.redirect_uri
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::CheckStatus;

    fn app(more: &serde_json::Value) -> Shown<App> {
        let mut app = serde_json::json!({
            "id": "app_00000000000000000000", "name": "svc", "provider": "github", "auth": null,
            "client_id": "c", "redirect_uri": "http://localhost:8081/oauth/callback/app_1",
            "scopes": [], "variables": {}, "secrets": [], "connections": ["work"],
            "paused": false, "managed_by": "store",
            "created": "2025-01-02T03:04:05Z", "updated": "2025-01-02T03:04:05Z",
        });
        app.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(app).unwrap()
    }

    fn connection(more: &serde_json::Value) -> Shown<Connection> {
        let mut connection = serde_json::json!({
            "id": "con_1", "name": "work", "provider": "github", "auth": "oauth_app",
            "app": "app_00000000000000000000", "environment": null,
            "variables": {}, "hosts": [], "state": "active", "managed_by": "store",
            "created": "2025-01-02T03:04:05Z", "updated": "2025-01-02T03:04:05Z",
        });
        connection.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(connection).unwrap()
    }

    fn judged(
        app: Shown<App>,
        connection: Shown<Connection>,
    ) -> Vec<(CheckStatus, String, Option<String>)> {
        let resources = Resources {
            agents: Vec::new(),
            connections: vec![connection],
            apps: vec![app],
            rules: Vec::new(),
        };
        let mut report = DoctorReport::default();
        check_all(
            &resources,
            &Global::default(),
            "2025-06-01T00:00:00Z".parse().unwrap(),
            &mut report,
        );
        report.checks.into_iter().map(|it| (it.status, it.message, it.hint)).collect()
    }

    #[test]
    fn a_problem_of_an_app_is_a_failure_only_if_a_connection_uses_the_app() {
        let nothing = serde_json::json!({});
        let problem = serde_json::json!({"problem": "the secret of app `svc` cannot be opened"});
        let [(status, message, hint)] = &judged(app(&problem), connection(&nothing))[..] else {
            panic!("one")
        };
        assert_eq!((*status, message.contains("svc")), (CheckStatus::Fail, true));
        assert_eq!(hint.as_deref(), Some("keyward app set svc --secret-stdin client_secret"));
        let unused = serde_json::json!({"problem": "x", "connections": []});
        assert_eq!(judged(app(&unused), connection(&nothing))[0].0, CheckStatus::Ok);
    }

    #[test]
    fn a_reconnect_deadline_or_registration_expiry_is_a_warning_two_weeks_before() {
        let nothing = serde_json::json!({});
        let at = |end: &str| serde_json::json!({"ends": end});
        for (end, told) in [
            ("2025-05-01T00:00:00Z", true),
            ("2025-06-10T00:00:00Z", true),
            ("2025-07-01T00:00:00Z", false),
        ] {
            let checks = judged(app(&nothing), connection(&at(end)));
            assert_eq!(checks[0].0 == CheckStatus::Warn, told, "{end}: {checks:?}");
        }
        let registered = serde_json::json!({
            "registered": {"issuer": "https://auth.test", "expires": "2025-06-02T00:00:00Z"}
        });
        let remedy = serde_json::json!({"remedy": "consent again: `x`"});
        let checks = judged(app(&registered), connection(&remedy));
        assert_eq!(checks[0].2.as_deref(), Some("consent again: `x`"));
    }

    #[test]
    fn a_connection_that_does_not_work_names_its_app_and_redirect_uri() {
        let apps = [app(&serde_json::json!({}))];
        let told = app_details(&connection(&serde_json::json!({})), &apps);
        assert!(told.contains("app svc") && told.ends_with("/oauth/callback/app_1"), "{told}");
        let none = serde_json::json!({"app": null});
        assert_eq!(app_details(&connection(&none), &apps), "");
    }
}
