//! Who may sign in, and with which role: the claims of a person against the settings. Pure.

use serde_json::{Map, Value};

use keyward_base::sign_in::{OidcSettings, SignInRole};

/// The requirement that a person does not meet. Names it without the person's claims.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAdmitted {
    /// The provider names no address.
    #[error("the identity provider does not say your e-mail address, which this gateway requires")]
    NoEmail,
    /// The provider does not vouch for the address.
    #[error("the identity provider does not say that your e-mail address is verified")]
    EmailUnverified,
    /// The address is of another domain.
    #[error("your e-mail address is of a domain that may not sign in here")]
    Domain,
    /// The person is in no group that may sign in.
    #[error("you are in no group that may sign in here")]
    Group,
    /// No role is for the person.
    #[error("none of your groups has a role here")]
    Role,
}

impl NotAdmitted {
    /// What the person can do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NoEmail => {
                "ask the operator of this gateway to request the scope `email`, or sign in with another account"
            }
            Self::EmailUnverified => "verify it there, then sign in again",
            Self::Domain => "sign in with an account of your organisation",
            Self::Group | Self::Role => {
                "ask the admin of the identity provider to add you to a group that may, then sign in again"
            }
        }
    }

    /// One word for the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoEmail => "no e-mail address",
            Self::EmailUnverified => "e-mail address not verified",
            Self::Domain => "domain not in `domains`",
            Self::Group => "no group of `groups`",
            Self::Role => "no role by `roles`",
        }
    }
}

/// The role of a person.
///
/// # Errors
/// When a requirement is not met.
pub(super) fn admit(
    settings: &OidcSettings,
    claims: &Map<String, Value>,
) -> Result<SignInRole, NotAdmitted> {
    if !settings.domains.is_empty() {
        let email = text(claims, "email").ok_or(NotAdmitted::NoEmail)?;
        if !is_verified(claims) {
            return Err(NotAdmitted::EmailUnverified);
        }
        let (_, domain) = email.rsplit_once('@').ok_or(NotAdmitted::Domain)?;
        if !settings.domains.iter().any(|known| known.eq_ignore_ascii_case(domain)) {
            return Err(NotAdmitted::Domain);
        }
    }
    let groups = values(claims, &settings.groups_claim);
    let is_in = |group: &String| groups.contains(&group.as_str());
    if !settings.groups.is_empty() && !settings.groups.iter().any(is_in) {
        return Err(NotAdmitted::Group);
    }
    let named = match &settings.roles_claim {
        None => groups,
        Some(claim) => values(claims, claim),
    };
    let roles = settings.roles.iter().filter(|(name, _)| named.contains(&name.as_str()));
    let highest = roles.map(|(_, role)| *role).max();
    highest.or(settings.default_role).ok_or(NotAdmitted::Role)
}

/// Whether a claim that the settings need is missing.
pub(super) fn lacks_claims(settings: &OidcSettings, claims: &Map<String, Value>) -> bool {
    let of_domains =
        ["email", "email_verified"].into_iter().filter(|_| !settings.domains.is_empty());
    let of_groups = (!settings.groups.is_empty()).then_some(&*settings.groups_claim);
    let of_roles = settings.roles_claim.as_deref().unwrap_or(&settings.groups_claim);
    let of_roles = (!settings.roles.is_empty()).then_some(of_roles);
    of_domains.chain(of_groups).chain(of_roles).any(|name| claim(claims, name).is_none())
}

/// The address, if the provider vouches for it.
pub(super) fn verified_email(claims: &Map<String, Value>) -> Option<&str> {
    text(claims, "email").filter(|_| is_verified(claims))
}

/// OpenID Connect Core §5.1 has a boolean; some providers send it as text.
fn is_verified(claims: &Map<String, Value>) -> bool {
    match claims.get("email_verified") {
        Some(Value::Bool(is_verified)) => *is_verified,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}

pub(super) fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A claim by its name, which may contain dots, or by its path.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let mut parts = name.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |at, part| at.get(part))
    })
}

/// The texts in a claim: one, or a list of them.
fn values<'a>(claims: &'a Map<String, Value>, name: &str) -> Vec<&'a str> {
    match claim(claims, name) {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(more: Value) -> OidcSettings {
        let mut all =
            json!({"issuer": "https://a.test", "client_id": "id", "client_secret": {"env": "S"}});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn admitted(more: &Value, claims: &Value) -> Result<SignInRole, NotAdmitted> {
        admit(&settings(more.clone()), claims.as_object().unwrap())
    }

    #[test]
    fn only_a_verified_address_of_a_named_domain_is_admitted() {
        use NotAdmitted::{Domain, EmailUnverified, NoEmail};
        let by_domain = json!({"domains": ["acme.test"], "default_role": "member"});
        for (claims, refusal) in [
            (json!({}), NoEmail),
            (json!({"email": ""}), NoEmail),
            (json!({"email": ["ann@acme.test"], "email_verified": true}), NoEmail),
            (json!({"email": "ann@acme.test"}), EmailUnverified),
            (json!({"email": "ann@acme.test", "email_verified": false}), EmailUnverified),
            (json!({"email": "ann@acme.test", "email_verified": "false"}), EmailUnverified),
            (json!({"email": "ann@acme.test", "email_verified": 1}), EmailUnverified),
            (json!({"email": "ann@evil.test", "email_verified": true}), Domain),
            (json!({"email": "ann@x.acme.test", "email_verified": true}), Domain),
            (json!({"email": "ann@acme.test.evil.test", "email_verified": true}), Domain),
            (json!({"email": "ann@acme.test@evil.test", "email_verified": true}), Domain),
            (json!({"email": "acme.test", "email_verified": true}), Domain),
        ] {
            assert_eq!(admitted(&by_domain, &claims), Err(refusal), "{claims}");
        }
        for verified in [json!(true), json!("true")] {
            let claims = json!({"email": "ann@ACME.test", "email_verified": verified});
            assert_eq!(admitted(&by_domain, &claims), Ok(SignInRole::Member));
        }
    }

    #[test]
    fn all_requirements_apply_and_the_highest_of_several_roles_is_granted() {
        use NotAdmitted::{Domain, Group, Role};
        let both = json!({"domains": ["acme.test"], "groups": ["dev", "ops"],
                          "roles": {"ops": "admin", "audit": "auditor"}});
        let of = |email: &str, groups: Value| json!({"email": email, "email_verified": true, "groups": groups});
        for (claims, expected) in [
            (of("a@acme.test", json!([])), Err(Group)),
            (of("a@acme.test", json!(["Dev", "audit", 1])), Err(Group)),
            (of("a@acme.test", json!({"dev": true})), Err(Group)),
            (of("a@evil.test", json!(["ops"])), Err(Domain)),
            (of("a@acme.test", json!(["dev"])), Err(Role)),
            (of("a@acme.test", json!("dev ops")), Err(Group)),
            (of("a@acme.test", json!("ops")), Ok(SignInRole::Admin)),
            (of("a@acme.test", json!(["dev", "audit"])), Ok(SignInRole::Auditor)),
            (of("a@acme.test", json!(["audit", "ops"])), Ok(SignInRole::Admin)),
        ] {
            assert_eq!(admitted(&both, &claims), expected, "{claims}");
        }
        let elsewhere = json!({"roles": {"kw": "member"}, "roles_claim": "realm_access.roles"});
        assert_eq!(admitted(&elsewhere, &json!({"groups": ["kw"]})), Err(Role));
        let claims = json!({"realm_access": {"roles": ["kw"]}});
        assert_eq!(admitted(&elsewhere, &claims), Ok(SignInRole::Member));
        let dotted = json!({"groups": ["g"], "groups_claim": "https://a.test/groups", "default_role": "auditor"});
        let claims = json!({"https://a.test/groups": ["g"]});
        assert_eq!(admitted(&dotted, &claims), Ok(SignInRole::Auditor));
    }
}
