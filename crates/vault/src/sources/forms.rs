//! [`SourceRequests`]: how a value is fetched over HTTP, as the file of the kind says.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

use keyward_model::{Condition, Pattern, SourceKind, source_kinds};

/// The requests of a kind. Texts with `{NAME}` are templates: a name is a part of the reference, a setting, one of
/// `values`, or a credential. Pointers (RFC 6901) lead to parts of an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SourceRequests {
    /// What names mean that no setting gives: the first case that the settings meet.
    pub(super) values: BTreeMap<String, Vec<Case>>,
    /// Fields of all requests. One without a value for a name is omitted.
    pub(super) headers: BTreeMap<String, String>,
    /// Whether one redirect to an https URL is followed.
    pub(super) follows: bool,
    /// The field that has the token alone. Default: `Authorization`, after `Bearer`.
    pub(super) token_header: Option<String>,
    /// Requests are signed instead (AWS Signature Version 4).
    pub(super) signature: Option<SignatureForm>,
    /// Values are encrypted with a key that the login gives.
    pub(super) sealed: Option<SealedForm>,
    /// The logins, of which the first is used that the settings meet. Without one, the token is a credential, or that of a
    /// connection.
    pub(super) login: Vec<LoginForm>,
    /// Requests for ids of names in the reference, in their order.
    pub(super) find: Vec<FindForm>,
    /// The request for the value: the first that the settings meet.
    pub(super) read: Vec<ReadForm>,
    pub(super) refusals: RefusalForms,
}

/// A meaning of a name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    #[serde(rename = "if")]
    pub(super) when: Option<Condition>,
    pub(super) is: String,
}

/// What a signature is made for; templates.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignatureForm {
    pub(super) region: String,
    pub(super) service: String,
}

/// How the key of a credential is derived (HKDF, RFC 5869).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SealedForm {
    pub(super) salt: String,
    pub(super) info: String,
}

/// A request: GET, or POST if it has a body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestForm {
    /// Begins with the name of the address. A parameter of the query without a value is omitted.
    pub(super) url: String,
    pub(super) form: Option<String>,
    pub(super) json: Option<BTreeMap<String, Value>>,
}

/// A login.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginForm {
    #[serde(rename = "if")]
    pub(super) when: Option<Condition>,
    /// Names that mean the content of a file of the gateway's machine, each with its path.
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    pub(super) ask: RequestForm,
    /// Where the token is.
    pub(super) token: String,
    /// Where its life is, in seconds.
    pub(super) seconds: String,
    /// Where the encrypted key of the values is.
    #[serde(default)]
    pub(super) key: String,
}

/// A request for the id of a name; it answers with a list of objects with an `id`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindForm {
    /// The name, which means the id afterwards.
    pub(super) name: String,
    /// The form of an id, for which nothing is asked.
    pub(super) unless: Pattern,
    pub(super) ask: RequestForm,
}

/// A request for the value, and where it is: in one of these ways.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadForm {
    #[serde(rename = "if")]
    pub(super) when: Option<Condition>,
    pub(super) ask: RequestForm,
    /// Where a text is.
    pub(super) value: Option<String>,
    /// Where a text in base64 is.
    pub(super) base64: Option<String>,
    /// Where an object is, of which the reference names a member.
    pub(super) fields: Option<String>,
    /// Whether `fields` and `sections` are lists of what has an id and a label, which the reference names.
    #[serde(default)]
    pub(super) labelled: bool,
}

/// How refusals are read. 404 means that there is no such value.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RefusalForms {
    /// Where the service's code is; what stands before `#` is not of it.
    pub(super) code: Option<String>,
    /// Codes that mean that there is no such value.
    pub(super) absent: Vec<String>,
    /// The meanings of statuses, in words.
    pub(super) statuses: BTreeMap<u16, String>,
}

/// The requests of a kind; `None` if it reads from the gateway's machine.
pub(super) fn requests_of(kind: &SourceKind) -> Option<&'static SourceRequests> {
    static READ: LazyLock<BTreeMap<&'static str, SourceRequests>> = LazyLock::new(|| {
        let read = |kind: &'static SourceKind| {
            let read = serde_json::from_value(kind.requests.clone());
            let read = read.unwrap_or_else(|why| panic!("{}: {why}: a test reads it", kind.id));
            (kind.id.as_str(), read)
        };
        source_kinds().iter().filter(|kind| kind.local.is_none()).map(read).collect()
    });
    READ.get(kind.id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in a template.
    fn names(template: &str) -> Vec<&str> {
        template.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect()
    }

    #[test]
    fn every_name_in_the_templates_of_a_kind_has_a_meaning() {
        for kind in source_kinds() {
            let Some(requests) = requests_of(kind) else { continue };
            let SourceKind { reference, settings, credentials, .. } = kind;
            let logins = requests.login.iter().map(|it| &it.ask);
            let others = requests.find.iter().map(|it| &it.ask);
            let asked = logins.chain(others).chain(requests.read.iter().map(|it| &it.ask));
            let asked: Vec<_> = asked.collect();
            assert!(asked.iter().all(|it| it.url.starts_with('{')), "{}: its address", kind.id);
            let mut known = vec!["ref", "token_id", "token_secret"];
            known.extend(settings.iter().map(|it| it.name.as_str()));
            known.extend(credentials.iter().map(|it| it.name.as_str()));
            known.extend(requests.values.keys().map(String::as_str));
            known.extend(requests.login.iter().flat_map(|it| it.files.keys().map(String::as_str)));
            let forms = ["op://a/b/c/d", "a/versions/b", "a/b"];
            let groups = reference.pattern.iter().flat_map(|it| forms.map(|form| it.parts(form)));
            known.extend(groups.flatten().flatten().map(|(name, _)| name));
            let bodies = asked.iter().flat_map(|it| it.json.iter().flatten());
            let urls = asked.iter().map(|it| it.url.as_str());
            let templates = urls
                .chain(asked.iter().filter_map(|it| it.form.as_deref()))
                .chain(bodies.filter_map(|(_, value)| value.as_str()))
                .chain(requests.headers.values().map(String::as_str))
                .chain(requests.values.values().flatten().map(|case| case.is.as_str()))
                .chain(requests.signature.iter().flat_map(|it| [&*it.region, &*it.service]));
            for name in templates.flat_map(names) {
                assert!(known.contains(&name), "{}: {name}", kind.id);
            }
        }
    }
}
