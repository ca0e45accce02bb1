//! `sign_in:` and its `oidc:`: how people sign in. `connect:`: how they connect accounts by a link.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_yaml::Value;

use super::reading::ConfigReading;
use super::secret::SecretSource;
use super::source;
use keyward_base::connect::ConnectSettings;
use keyward_base::host::Host;
use keyward_base::id::OrgId;
use keyward_base::sign_in::OidcSettings;
use keyward_base::sign_in::{IDLE, LIFE, SignInSettings};
use keyward_model::origin_of;
use keyward_rules::provider::document::key_of;
use keyward_vault::grant::oauth::is_secure;

/// Settings, and what they name outside of themselves.
#[derive(Clone, Debug)]
pub struct SignIn {
    pub settings: SignInSettings,
    /// Of `sign_in.oidc`; `None` without it.
    pub oidc: Option<OidcSources>,
}

pub(super) fn sign_in(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> SignIn {
    let settings = reading.section::<SignInSettings>(value, "sign_in").unwrap_or_default();
    let mut within = |key: &str, given: Duration, range: RangeInclusive<Duration>, text: &str| {
        if !range.contains(&given) {
            let remedy = format!("write {text}");
            reading.problems.add(&key_of("sign_in", key), "the time is out of bounds", remedy);
        }
    };
    within("idle", settings.idle, IDLE, "5m to 30d, such as 12h");
    within("life", settings.life, LIFE, "5m to 90d, such as 7d");
    let secret = value.and_then(|value| value.get("oidc")?.get("client_secret"));
    let oidc = settings.oidc.as_ref().and_then(|settings| oidc(settings, secret, reading));
    SignIn { settings, oidc }
}

const PATH: &str = "sign_in.oidc";

const NAME_CHARS_MAX: usize = 40;

/// What the section names outside of its settings.
#[derive(Clone, Debug)]
pub struct OidcSources {
    pub client_secret: SecretSource,
    /// The organisation that people sign in to.
    pub org: OrgId,
    /// Its place, for errors: `keyward.yaml:12: sign_in.oidc`.
    pub place: String,
}

/// Checks the section. `secret` is the value of `client_secret`.
pub(super) fn oidc(
    settings: &OidcSettings,
    secret: Option<&Value>,
    reading: &mut ConfigReading<'_>,
) -> Option<OidcSources> {
    let org = reading.org(Some(&settings.org), &key_of(PATH, "org"));
    for wrong in wrong(settings).into_iter().chain(wrong_admission(settings)) {
        reading.problems.add(&key_of(PATH, wrong.key), wrong.message, wrong.remedy);
    }
    let client_secret = source::secret(secret?, &key_of(PATH, "client_secret"), reading)?;
    Some(OidcSources { client_secret, org, place: reading.place(PATH) })
}

struct SettingProblem {
    key: &'static str,
    message: &'static str,
    remedy: &'static str,
}

/// Keys that are wrong alone.
fn wrong(settings: &OidcSettings) -> Vec<SettingProblem> {
    let is_word = |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    let is_domain = |text: &String| matches!(Host::parse(text), Ok(Host::Name(name)) if name.contains('.') && !text.contains('*'));
    let name = settings.name.trim();
    let is_name = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
    let claims = [Some(&settings.groups_claim), settings.roles_claim.as_ref()];
    let has =
        |is: bool, key, message, remedy| (!is).then_some(SettingProblem { key, message, remedy });
    let found = [
        has(
            is_issuer(&settings.issuer),
            "issuer",
            "this is not the issuer of an identity provider",
            "write its https URL, such as https://login.example.com; http:// for localhost only",
        ),
        has(
            !settings.client_id.trim().is_empty(),
            "client_id",
            "the client id is empty",
            "write the id that the provider gave the client",
        ),
        has(
            is_name && !name.contains(char::is_control),
            "name",
            "this cannot be shown on a button",
            "write up to 40 printable characters",
        ),
        has(
            settings.scopes.iter().all(is_word),
            "scopes",
            "a scope is empty or has a blank",
            "write each scope as an item of the list",
        ),
        has(
            settings.domains.iter().all(is_domain),
            "domains",
            "this is not the domain of e-mail addresses",
            "write the part after the @, such as example.com, without wildcards",
        ),
        has(
            settings.groups.iter().chain(settings.roles.keys()).all(|name| !name.is_empty()),
            "groups",
            "the name of a group is empty",
            "write its name or id as the provider sends it",
        ),
        has(
            claims.into_iter().flatten().all(is_word),
            "groups_claim",
            "this is not the name of a claim",
            "write a name such as groups, or a path such as realm_access.roles",
        ),
    ];
    found.into_iter().flatten().collect()
}

/// Keys that together let in every account of the provider, or none.
fn wrong_admission(settings: &OidcSettings) -> Option<SettingProblem> {
    let restricts = !settings.domains.is_empty() || !settings.groups.is_empty();
    match (restricts, settings.roles.is_empty(), settings.default_role.is_some()) {
        (false, true, _) => Some(SettingProblem {
            key: "domains",
            message: "everybody with an account at the provider could sign in",
            remedy: "add `domains: [example.com]`, `groups:` or `roles:`",
        }),
        (false, false, true) => Some(SettingProblem {
            key: "default_role",
            message: "everybody with an account at the provider would have this role",
            remedy: "remove it, or add `domains: [example.com]` or `groups:`",
        }),
        (true, true, false) => Some(SettingProblem {
            key: "default_role",
            message: "no user gets a role, so no user can sign in",
            remedy: "add `default_role: member`, or the roles of groups as `roles:`",
        }),
        _ => None,
    }
}

fn is_issuer(text: &str) -> bool {
    is_secure(text, true) && !text.contains(['?', '#'])
}

const BRAND_NAME_CHARS_MAX: usize = 64;

/// Reads `connect:`. Origins are compared as they are kept: in lower case, without path and default port.
pub(super) fn connect(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> ConnectSettings {
    let mut settings = reading.section::<ConnectSettings>(value, "connect").unwrap_or_default();
    for (at, url) in settings.return_urls.iter_mut().enumerate() {
        let has_path = url
            .split_once("://")
            .is_some_and(|(_, rest)| rest.trim_end_matches('/').contains(['/', '?', '#']));
        match origin_of(url).filter(|_| !has_path) {
            Some(origin) => *url = origin,
            None => reading.problems.add(
                &format!("connect.return_urls[{at}]"),
                "this is not the origin of a site",
                "write `https://app.example.com`, without a path; `http://` for localhost only",
            ),
        }
    }
    let name = settings.branding.name.as_deref();
    let is_shown = |name: &str| {
        !name.trim().is_empty()
            && name.chars().count() <= BRAND_NAME_CHARS_MAX
            && !name.contains(char::is_control)
    };
    if !name.is_none_or(is_shown) {
        let remedy = "write up to 64 printable characters";
        reading.problems.add("connect.branding.name", "this cannot be shown", remedy);
    }
    settings
}
