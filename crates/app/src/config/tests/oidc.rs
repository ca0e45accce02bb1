//! `sign_in.oidc` is refused with its line if it admits every account of the provider, admits none, or cannot work.

use super::{read, said};
use keyward_base::sign_in::SignInRole;

/// A section with `more`.
fn section(more: &str) -> String {
    format!(
        "sign_in:\n  oidc:\n    issuer: https://login.example.com\n    client_id: keyward\n    client_secret: {{ env: S }}\n    {}\n",
        more.replace("; ", "\n    ")
    )
}

#[test]
fn a_section_that_admits_every_user_or_no_user_is_refused() {
    for (more, expected) in [
        (
            "name: Acme",
            "keyward.yaml:2: sign_in.oidc.domains: everybody with an account at the provider could sign in; add `domains: [example.com]`, `groups:` or `roles:`",
        ),
        (
            "default_role: member",
            "keyward.yaml:2: sign_in.oidc.domains: everybody with an account at the provider could sign in; add `domains: [example.com]`, `groups:` or `roles:`",
        ),
        (
            "roles: { ops: admin }; default_role: member",
            "keyward.yaml:7: sign_in.oidc.default_role: everybody with an account at the provider would have this role; remove it, or add `domains: [example.com]` or `groups:`",
        ),
        (
            "domains: [example.com]",
            "keyward.yaml:2: sign_in.oidc.default_role: no user gets a role, so no user can sign in; add `default_role: member`, or the roles of groups as `roles:`",
        ),
    ] {
        assert_eq!(said(&section(more), &[]), expected, "{more}");
    }
}

#[test]
fn an_invalid_value_or_unknown_key_is_refused_by_its_key_with_a_remedy() {
    for (more, expected) in [
        (
            "groups: [dev]; default_role: owner",
            "sign_in.oidc.default_role: `owner` is not one of the choices; write auditor, member, admin",
        ),
        (
            "groups: [dev]; roles: { dev: root }",
            "sign_in.oidc.roles.dev: `root` is not one of the choices; write auditor, member, admin",
        ),
        (
            "groups: ['']; default_role: member",
            "sign_in.oidc.groups: the name of a group is empty; write its name or id as the provider sends it",
        ),
        (
            "domains: ['@example.com']; default_role: member",
            "sign_in.oidc.domains: this is not the domain of e-mail addresses; write the part after the @, such as example.com, without wildcards",
        ),
        (
            "domains: ['*.example.com']; default_role: member",
            "sign_in.oidc.domains: this is not the domain of e-mail addresses; write the part after the @, such as example.com, without wildcards",
        ),
        (
            "domains: [com]; default_role: member",
            "sign_in.oidc.domains: this is not the domain of e-mail addresses; write the part after the @, such as example.com, without wildcards",
        ),
        (
            "groups: [dev]; default_role: member; scopes: ['openid email']",
            "sign_in.oidc.scopes: a scope is empty or has a blank; write each scope as an item of the list",
        ),
        (
            "groups: [dev]; default_role: member; name: ''",
            "sign_in.oidc.name: this cannot be shown on a button; write up to 40 printable characters",
        ),
        (
            "groups: [dev]; default_role: member; org: A",
            "sign_in.oidc.org: this is not the name of an organisation; write 2 to 40 lower-case letters, digits or inner hyphens",
        ),
        (
            "groups: [dev]; default_role: member; group: x",
            "sign_in.oidc.group: unknown key `group`; did you mean `groups`?",
        ),
    ] {
        let said = said(&section(more), &[]);
        assert!(said.ends_with(expected) && said.lines().count() == 1, "{more}: {said}");
    }
}

#[test]
fn an_issuer_must_be_an_https_url_or_an_http_url_of_localhost() {
    let with_issuer = |issuer: &str| {
        let text = section("groups: [dev]; default_role: member");
        said(&text.replace("https://login.example.com", issuer), &[])
    };
    for issuer in [
        "http://login.example.com",
        "login.example.com",
        "https://a.test/?x=1",
        "https://u:p@a.test",
        "''",
    ] {
        let said = with_issuer(issuer);
        assert!(said.contains("sign_in.oidc.issuer: this is not the issuer"), "{issuer}: {said}");
    }
    for issuer in ["https://login.example.com/tenant/v2.0", "http://localhost:4444"] {
        assert_eq!(with_issuer(issuer), "");
    }
    let required = said("sign_in: { oidc: { groups: [dev], default_role: member } }", &[]);
    for key in ["issuer", "client_id", "client_secret"] {
        assert!(required.contains(&format!("`{key}` is missing")), "{required}");
    }
}

#[test]
fn the_secret_organisation_and_roles_of_the_section_are_read() {
    let config = read(&section("roles: { ops: admin, dev: member }; org: acme"), &[]);
    let oidc = config.sign_in.oidc.expect("sources");
    assert_eq!((oidc.client_secret.variable(), oidc.org.name()), (Some("S"), "acme"));
    let settings = config.sign_in.settings.oidc.expect("settings");
    assert_eq!(settings.roles["ops"], SignInRole::Admin);
    assert_eq!((&*settings.groups_claim, settings.scopes.len()), ("groups", 3));
}
