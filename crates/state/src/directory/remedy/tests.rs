//! The remedies for every state, kind and owner. Each command in them exists.

use jiff::Timestamp;

use super::*;
use keyward_base::id::{AppId, OrgId};
use keyward_model::{
    AppFacts, AppSpec, ConnectionFacts, ConnectionSpec, DynamicRegistration, FieldReference,
    Record, Reference,
};
use keyward_rules::provider::check;

/// One auth method for each kind of renewal.
const PROVIDERS: &str = "\
- { id: acme, name: Acme, hosts: [api.acme.test], key_url: 'https://acme.test/keys', auth: [{ id: key, kind: bearer }] }
- id: bank
  name: Bank
  hosts: [api.bank.test]
  auth:
  - { id: consent, kind: oauth2, grant: authorization_code, authorize: 'https://auth.bank.test/a', token: 'https://auth.bank.test/t' }
  - { id: client, kind: oauth2, grant: client_credentials, token: 'https://auth.bank.test/t' }
  - { id: service_account, kind: service_account, token: 'https://auth.bank.test/t' }
";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Key,
    Consent,
    Registered,
    Imported,
    Client,
    ServiceAccount,
}

const KINDS: [(&str, Kind); 6] = [
    ("key", Kind::Key),
    ("consent", Kind::Consent),
    ("consent, registered client", Kind::Registered),
    ("tokens of another tool", Kind::Imported),
    ("client credentials", Kind::Client),
    ("service account", Kind::ServiceAccount),
];

fn catalogue() -> Catalogue {
    let providers = check::file("p.yaml", PROVIDERS, &Catalogue::default());
    Catalogue::default().with(providers.unwrap_or_else(|error| panic!("{error:?}")))
}

fn app(managed_by: ManagedBy, registered: bool) -> AppRecord {
    let registered = registered.then(|| DynamicRegistration {
        issuer: "https://auth.bank.test".into(),
        expires: None,
        scopes: None,
        uri: None,
    });
    let spec = AppSpec {
        name: "desk".to_owned(),
        provider: "bank".to_owned(),
        client_id: "c".to_owned(),
        ..AppSpec::default()
    };
    let (org, now) = (OrgId::default_org(), Timestamp::UNIX_EPOCH);
    let facts = AppFacts { registered, ..AppFacts::default() };
    let id = AppId::parse("app_00000000000000000000").unwrap();
    AppRecord { id, ..AppRecord::new(&org, managed_by, spec, facts, now) }
}

fn connection(kind: Kind, managed_by: ManagedBy, state: ConnectionState) -> ConnectionRecord {
    let (provider, auth) = match kind {
        Kind::Key => ("acme", "key"),
        Kind::Consent | Kind::Registered | Kind::Imported => ("bank", "consent"),
        Kind::Client => ("bank", "client"),
        Kind::ServiceAccount => ("bank", "service_account"),
    };
    let with_app = matches!(kind, Kind::Consent | Kind::Registered | Kind::Client);
    let spec = ConnectionSpec {
        name: "work".to_owned(),
        provider: provider.to_owned(),
        auth: Some(auth.to_owned()),
        app: with_app.then(|| Reference::new("app_00000000000000000000")),
        ..ConnectionSpec::default()
    };
    let facts = ConnectionFacts { state, ..ConnectionFacts::default() };
    Record::new(&OrgId::default_org(), managed_by, spec, facts, Timestamp::UNIX_EPOCH)
}

fn broken(reason: BrokenReason) -> ConnectionState {
    ConnectionState::Broken { reason, detail: None }
}

fn states() -> Vec<(&'static str, ConnectionState)> {
    use BrokenReason as B;
    vec![
        ("draft", ConnectionState::Draft { failure: None }),
        ("testing", ConnectionState::Testing),
        ("active", ConnectionState::Active),
        ("paused", ConnectionState::Paused),
        ("revoked", broken(B::Revoked)),
        ("expired", broken(B::Expired)),
        ("no_refresh_token", broken(B::NoRefreshToken)),
        ("client_rejected", broken(B::ClientRejected)),
        ("test_failed", broken(B::TestFailed)),
        ("rejected", broken(B::Rejected)),
        ("store_key_missing", broken(B::StoreKeyMissing)),
    ]
}

/// Every case with its remedy: kind, owner, situation.
fn table() -> Vec<(Kind, ManagedBy, String, Option<String>)> {
    let catalogue = catalogue();
    let scopes = ["read".to_owned(), "write".to_owned()];
    let mut rows = Vec::new();
    for (kind_name, kind) in KINDS {
        for managed_by in [ManagedBy::Store, ManagedBy::File] {
            let app = app(managed_by, kind == Kind::Registered);
            let name = format!("{kind_name} ({managed_by:?})");
            let of = |state: ConnectionState, cause| {
                let connection = connection(kind, managed_by, state);
                let app = connection.app.is_some().then_some(&app);
                Remedies::new(&connection, app, &catalogue).remedy(cause)
            };
            for (state_name, state) in states() {
                let told = of(state, RemedyCause::Use);
                rows.push((kind, managed_by, format!("{name}, {state_name}"), told));
            }
            for (what, cause) in [
                ("credential refused", RemedyCause::Credential),
                ("scopes missing", RemedyCause::Scopes(&scopes)),
                ("token over", RemedyCause::Token),
            ] {
                let told = of(ConnectionState::Active, cause);
                rows.push((kind, managed_by, format!("{name}, {what}"), told));
            }
        }
    }
    rows
}

#[test]
fn every_state_of_every_kind_has_one_remedy() {
    let rows = table();
    let lines = rows
        .iter()
        .map(|(_, _, what, remedy)| format!("{what}\n    {}\n", remedy.as_deref().unwrap_or("-")));
    insta::assert_snapshot!(lines.collect::<String>());
}

#[test]
fn remedies_remove_only_connections_that_left_the_file_and_fit_their_kind() {
    for (kind, managed_by, what, remedy) in table() {
        let Some(remedy) = remedy else {
            assert!(what.ends_with("active") || what.ends_with("testing"), "{what}");
            continue;
        };
        let left_the_file = managed_by == ManagedBy::File && what.ends_with("paused");
        assert_eq!(remedy.contains("remove"), left_the_file, "{what}: {remedy}");
        let consents = matches!(kind, Kind::Consent | Kind::Registered);
        assert!(consents || !remedy.contains("reconnect"), "{what}: {remedy}");
        let rotates = managed_by == ManagedBy::Store
            && matches!(kind, Kind::Key | Kind::Imported | Kind::ServiceAccount);
        assert!(rotates || !remedy.contains("rotate"), "{what}: {remedy}");
    }
}

#[test]
fn the_remedy_for_a_rejected_client_names_the_private_key_of_an_app_without_a_secret() {
    let catalogue = catalogue();
    for (managed_by, step) in [
        (ManagedBy::Store, "`keyward app set desk --secret-file private_key=PATH`"),
        (ManagedBy::File, "`keyward reload`"),
    ] {
        let mut app = app(managed_by, false);
        app.facts.secrets = vec!["private_key".to_owned()];
        let connection = connection(Kind::Client, managed_by, broken(BrokenReason::ClientRejected));
        let remedy = Remedies::new(&connection, Some(&app), &catalogue).remedy(RemedyCause::Use);
        let remedy = remedy.expect("a step");
        assert!(remedy.contains("client id and private key of app `desk`"), "{remedy}");
        assert!(remedy.contains(step), "{remedy}");
    }
}

#[test]
fn the_remedy_for_a_missing_provider_or_auth_method_names_the_provider() {
    let of = |connection: &ConnectionRecord, cause| {
        Remedies::new(connection, None, &catalogue()).remedy(cause).unwrap_or_default()
    };
    let mut gone = connection(Kind::Key, ManagedBy::Store, ConnectionState::Active);
    gone.provider = "gone".to_owned();
    assert!(
        of(&gone, RemedyCause::Use).contains("provider `gone`"),
        "{}",
        of(&gone, RemedyCause::Use)
    );
    let mut lost = connection(Kind::Key, ManagedBy::Store, broken(BrokenReason::Revoked));
    lost.auth = Some("gone".to_owned());
    assert!(
        of(&lost, RemedyCause::Use).contains("provider `acme`"),
        "{}",
        of(&lost, RemedyCause::Use)
    );
}

#[test]
fn a_broken_verdict_has_the_same_remedy_before_and_after_the_state_changes() {
    let (catalogue, app) = (catalogue(), app(ManagedBy::Store, false));
    for (_, kind) in KINDS {
        for (_, state) in states() {
            let ConnectionState::Broken { reason, .. } = state else { continue };
            let after = connection(kind, ManagedBy::Store, state.clone());
            let mut before = after.clone();
            before.facts.state = ConnectionState::Active;
            let app = after.app.is_some().then_some(&app);
            let of = |connection, cause| Remedies::new(connection, app, &catalogue).remedy(cause);
            assert_eq!(
                of(&before, RemedyCause::Broken { reason, detail: None }),
                of(&after, RemedyCause::Use)
            );
        }
    }
}

#[test]
fn the_remedy_for_a_missing_or_bad_endpoint_corrects_it_and_not_the_client() {
    let (catalogue, app) = (catalogue(), app(ManagedBy::Store, false));
    for (name, kind) in KINDS {
        let connection = connection(kind, ManagedBy::Store, ConnectionState::Active);
        let of = |detail: &str| {
            let cause =
                RemedyCause::Broken { reason: BrokenReason::ClientRejected, detail: Some(detail) };
            let app = connection.app.is_some().then_some(&app);
            Remedies::new(&connection, app, &catalogue).remedy(cause).unwrap_or_default()
        };
        for code in [
            "no_endpoint",
            "bad_endpoint",
            "bad_issuer",
            "no_metadata",
            "metadata_mismatch",
            "metadata_not_https",
        ] {
            assert_eq!(
                of(code),
                "correct the issuer or the token endpoint of its provider or app, then refresh it: \
                 `keyward connection refresh work`",
                "{name}: {code}"
            );
        }
        let of_client = of("invalid_client");
        assert!(!of_client.contains("endpoint"), "{name}: {of_client}");
    }
}

#[test]
fn the_remedy_for_a_known_code_of_a_service_begins_with_its_meaning() {
    let (catalogue, app) = (catalogue(), app(ManagedBy::Store, false));
    let connection = connection(Kind::Consent, ManagedBy::Store, ConnectionState::Active);
    let of = |reason, detail: &str| {
        let cause = RemedyCause::Broken { reason, detail: Some(detail) };
        Remedies::new(&connection, Some(&app), &catalogue).remedy(cause).unwrap_or_default()
    };
    let (rejected, revoked) = (BrokenReason::ClientRejected, BrokenReason::Revoked);
    let expired = of(rejected, "invalid_client, AADSTS7000222");
    assert!(expired.starts_with("the client secret has expired"), "{expired}");
    assert!(expired.contains("; check the client id and secret of app `desk`"), "{expired}");
    assert!(!expired.contains("client-auth"), "the cause is known: {expired}");
    assert_eq!(
        of(revoked, "interaction_required, AADSTS50076"),
        "multi-factor authentication is required; consent again: `keyward connection reconnect work`"
    );
    for unknown in ["invalid_grant", "invalid_grant, AADSTS1", "x, ", ""] {
        assert_eq!(of(revoked, unknown), "consent again: `keyward connection reconnect work`");
    }
}

#[test]
fn the_remedy_for_invalid_client_names_the_other_ways_to_send_the_secret() {
    use ClientAuthText::{BasicRaw, Body, PrivateKeyJwt};
    let catalogue = catalogue();
    let of = |managed_by, way: Option<ClientAuthText>, registered, detail: &str| {
        let mut app = app(managed_by, registered);
        app.spec.settings.tokens.client_auth = way;
        app.facts.secrets = vec!["client_secret".to_owned()];
        let connection = connection(Kind::Consent, managed_by, ConnectionState::Active);
        let reason = BrokenReason::ClientRejected;
        let cause = RemedyCause::Broken { reason, detail: Some(detail) };
        Remedies::new(&connection, Some(&app), &catalogue).remedy(cause).unwrap_or_default()
    };
    for (way, others) in [
        (None, "body` or `basic_raw`"),
        (Some(Body), "basic` or `basic_raw`"),
        (Some(BasicRaw), "body` or `basic`"),
    ] {
        let told = of(ManagedBy::Store, way, false, "invalid_client");
        assert!(told.contains(&format!("`keyward app set desk --client-auth {others}")), "{told}");
        let told = of(ManagedBy::File, way, false, "invalid_client");
        assert!(told.contains(&format!("`client_auth: {others} in its settings")), "{told}");
    }
    let signed = of(ManagedBy::Store, Some(PrivateKeyJwt), false, "invalid_client");
    assert!(signed.contains("correct the clock of this machine"), "{signed}");
    let bound = of(ManagedBy::Store, None, false, "not_bearer");
    assert!(bound.ends_with("; refresh it: `keyward connection refresh work`"), "{bound}");
    assert!(bound.contains("DPoP") && !bound.contains("secret"), "{bound}");
    for told in [
        signed,
        of(ManagedBy::Store, None, true, "invalid_client"),
        of(ManagedBy::Store, None, false, "invalid_scope"),
    ] {
        assert!(!told.contains("client-auth"), "{told}");
    }
}

#[test]
fn the_remedy_for_a_rejected_service_account_includes_a_refresh() {
    let catalogue = catalogue();
    for managed_by in [ManagedBy::Store, ManagedBy::File] {
        let state = broken(BrokenReason::ClientRejected);
        let connection = connection(Kind::ServiceAccount, managed_by, state);
        let told = Remedies::new(&connection, None, &catalogue).remedy(RemedyCause::Use);
        let told = told.unwrap_or_default();
        let again = "; if the present one is right, refresh it: `keyward connection refresh work`";
        assert!(told.ends_with(again), "{managed_by:?}: {told}");
    }
}

/// Keyward has no secret to rotate, and the configuration file has none.
#[test]
fn the_remedy_for_a_rejected_secret_of_a_source_names_the_source() {
    let catalogue = catalogue();
    for managed_by in [ManagedBy::Store, ManagedBy::File] {
        for reason in [BrokenReason::Rejected, BrokenReason::Revoked] {
            let mut connection = connection(Kind::Key, managed_by, broken(reason));
            let (from, reference) = ("vault".to_owned(), "kv/acme".to_owned());
            let field = FieldReference { from, reference };
            connection.spec.references.insert("api_key".to_owned(), field);
            let told = Remedies::new(&connection, None, &catalogue).remedy(RemedyCause::Use);
            let expected = "put a new secret from https://acme.test/keys into source `vault`, then test it: \
                            `keyward connection test work`";
            assert_eq!(told.as_deref(), Some(expected), "{managed_by:?}");
        }
    }
}
