//! [`TestRequest`]: a provider's harmless test request, filled in for one connection, and the expected response; and the
//! check of a declared one. It contains no secret: the data path writes the credential.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::document::{Problems, item_of, key_of};
use super::field::Field;
use super::methods;
use super::own_hosts::OwnHosts;
use super::schema::TestText;
use super::{AuthKind, AuthMethod, FormError, Provider};
use crate::inject::placeholder::Placeholder;

/// Characters that are not encoded in any part of a URL: RFC 3986 §2.3.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request that tests a credential.
#[derive(Clone, Debug)]
pub struct TestRequest {
    pub method: Method,
    /// The URL; secret fields are placeholders.
    pub uri: Uri,
    /// URLs to ask in order while the credential is refused.
    pub others: Vec<Uri>,
    /// Header fields, without `Host`.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The expected response.
    pub expected: ExpectedResponse,
}

/// Properties of a successful response.
#[derive(Clone, Debug, Default)]
pub struct ExpectedResponse {
    /// The expected status; `None` for any 2xx.
    status: Option<u16>,
    /// Statuses that reject the credential, if it is accepted by all others.
    rejects: Vec<u16>,
    /// Expected members, by dotted path.
    members: Vec<(String, Value)>,
    /// Whether it is GraphQL, which reports errors with status 200 and `errors`.
    graphql: bool,
    /// Dotted paths of the account's identity.
    account: Vec<String>,
}

/// Why a declared test request cannot be built.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TestRequestError {
    /// Variables are invalid.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The declared request cannot be sent.
    #[error("the test request of provider `{provider}` cannot be sent: {what}")]
    Unsendable {
        provider: String,
        /// The reason.
        what: &'static str,
    },
}

impl Provider {
    /// The request that tests a connection; `None` if the provider has none for `auth`. `shown`: values of
    /// non-secret fields, which some URLs need.
    ///
    /// # Errors
    /// When variables are invalid, or the declared request is not a valid request.
    pub fn test_request(
        &self,
        auth: &AuthMethod,
        variables: &BTreeMap<String, String>,
        shown: &BTreeMap<String, String>,
    ) -> Result<Option<TestRequest>, TestRequestError> {
        let Some(test) = self.test(auth) else { return Ok(None) };
        let mut values = self.filled(variables)?;
        for field in &auth.fields {
            let value = match shown.get(&field.name) {
                Some(value) if !field.secret => encoded(value),
                // The placement recognises the mark and replaces it.
                _ => Placeholder::issue("", None).as_str().to_owned(),
            };
            values.insert(field.name.clone(), value);
        }
        let unsendable =
            |what| TestRequestError::Unsendable { provider: self.id.to_string(), what };
        let uri = |url: &str| -> Result<Uri, TestRequestError> {
            let url = fill(url, &values);
            let url = url.ok_or_else(|| unsendable("its URL names an unknown value"))?;
            url.parse().map_err(|_| unsendable("its URL"))
        };
        let of_token = test.oauth_url.as_ref().filter(|_| auth.kind == AuthKind::Oauth2);
        let others = test.other_urls.iter().filter(|_| of_token.is_none());
        let (body, kind) = body(test).ok_or_else(|| unsendable("its body"))?;
        let method = test.method.as_deref().unwrap_or("GET");
        Ok(Some(TestRequest {
            method: Method::from_bytes(method.as_bytes()).map_err(|_| unsendable("its method"))?,
            uri: uri(of_token.unwrap_or(&test.url))?,
            others: others.map(|url| uri(url)).collect::<Result<_, _>>()?,
            headers: self.fields(test, kind, &values).ok_or_else(|| unsendable("its fields"))?,
            body,
            expected: ExpectedResponse::of(test),
        }))
    }

    /// Given variables and defaults, percent-encoded.
    fn filled(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, FormError> {
        let values = self.values(given)?;
        for variable in &self.variables {
            if !values.contains_key(&variable.name) {
                let (name, label) = (variable.name.clone(), variable.label.clone());
                return Err(FormError::Missing { name, label });
            }
        }
        Ok(values)
    }

    /// Our fields, then the provider's defaults, then those of the test.
    fn fields(
        &self,
        test: &TestText,
        kind: Option<&'static str>,
        values: &BTreeMap<String, String>,
    ) -> Option<HeaderMap> {
        let mut fields = HeaderMap::new();
        let agent = concat!("keyward/", env!("CARGO_PKG_VERSION"));
        fields.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        fields.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(kind) = kind {
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        for (name, value) in self.about.default_headers.iter().chain(&test.headers) {
            let name = HeaderName::try_from(name).ok()?;
            fields.insert(name, HeaderValue::try_from(fill(value, values)?).ok()?);
        }
        Some(fields)
    }
}

impl ExpectedResponse {
    fn of(test: &TestText) -> Self {
        let members = test.expect_json.iter().flatten();
        let members = members
            .filter_map(|(path, value)| Some((path.clone(), serde_json::to_value(value).ok()?)));
        let graphql = test.json.as_ref().is_some_and(|json| json.get("query").is_some());
        Self {
            status: test.expect_status,
            rejects: test.rejects.clone(),
            members: members.collect(),
            graphql,
            account: test.account.clone(),
        }
    }

    /// Whether the response body identifies the account.
    pub fn reads_account(&self) -> bool {
        !self.account.is_empty()
    }

    /// The account's identity: the declared members that are present in the response body.
    pub fn account(&self, body: &[u8]) -> Option<String> {
        let body = serde_json::from_slice::<Value>(body).ok()?;
        let identities = self.account.iter().filter_map(|path| match member(&body, path)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        let identities: Vec<String> = identities.filter(|text| !text.is_empty()).collect();
        (!identities.is_empty()).then(|| identities.join(", "))
    }

    /// Scopes that a refusal names as missing, as Slack does (https://docs.slack.dev/apis/web-api).
    pub fn needed(&self, body: &[u8]) -> Option<Vec<String>> {
        let body = serde_json::from_slice::<Value>(body).ok()?;
        let needed = member(&body, "needed")?.as_str()?;
        Some(needed.split([',', ' ']).filter(|it| !it.is_empty()).map(str::to_owned).collect())
    }

    /// Whether the verdict depends on the response body.
    pub fn reads_body(&self) -> bool {
        !self.members.is_empty() || self.graphql
    }

    /// Whether the status means success.
    pub fn accepts_status(&self, status: u16) -> bool {
        match self.status {
            Some(expected) => status == expected,
            None if !self.rejects.is_empty() => {
                status < 500 && status != 429 && !self.rejects.contains(&status)
            }
            None => (200..300).contains(&status),
        }
    }

    /// Whether the body has the expected members.
    pub fn is_met_by(&self, body: &[u8]) -> bool {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return false };
        let has = |(path, wanted): &(String, Value)| member(&body, path) == Some(wanted);
        self.members.iter().all(has) && !(self.graphql && body.get("errors").is_some())
    }
}

/// The value at a dotted path; a number is a list index.
fn member<'a>(of: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(of, |at, name| match at {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        at => at.get(name),
    })
}

fn body(test: &TestText) -> Option<(Bytes, Option<&'static str>)> {
    if let Some(json) = &test.json {
        return Some((serde_json::to_vec(json).ok()?.into(), Some("application/json")));
    }
    if let Some(form) = &test.form {
        let pairs =
            form.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        let text = pairs.collect::<Vec<_>>().join("&");
        return Some((text.into(), Some("application/x-www-form-urlencoded")));
    }
    Some((test.body.clone().unwrap_or_default().into(), None))
}

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, UNRESERVED).to_string()
}

/// Replaces each `{name}`; `None` if a value is missing.
fn fill(template: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        let (name, after) = tail.split_once('}')?;
        text.push_str(before);
        text.push_str(values.get(name)?);
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

/// Checks the test request at `at`; its templates may name variables and `fields`.
pub(super) fn check(
    test: &TestText,
    fields: &[&Field],
    at: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) {
    let method = test.method.as_deref().unwrap_or("GET");
    methods::method(method, &key_of(at, "method"), problems);
    if test.expect_status.is_some() && !test.rejects.is_empty() {
        let message = "`rejects` and `expect_status` exclude each other";
        problems.add(&key_of(at, "rejects"), message, "keep one");
    }
    check_url(&test.url, fields, &key_of(at, "url"), own, problems);
    for (index, other) in test.other_urls.iter().enumerate() {
        check_url(other, fields, &item_of(&key_of(at, "other_urls"), index), own, problems);
    }
}

fn check_url(
    url: &str,
    fields: &[&Field],
    at: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) {
    let names = url.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    for (name, _) in names {
        let known = own.variables.iter().any(|variable| variable.name == name)
            || fields.iter().any(|field| field.name == name);
        if !known {
            let message = format!("`{{{name}}}` is neither a variable nor a field");
            problems.add(at, message, "declare it under `variables`, or name a field");
        }
    }
    if let Some((host, _)) = own.url(url, at, problems)
        && !own.owns(&host)
    {
        let message = format!("`{host}` is not one of the provider's hosts");
        problems.add(at, message, "test on a host that `hosts` lists");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::placeholder;
    use crate::provider::Catalogue;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn request(
        provider: &str,
        variables: &[(&str, &str)],
        shown: &[(&str, &str)],
    ) -> Result<Option<TestRequest>, TestRequestError> {
        let catalogue = Catalogue::built_in();
        let provider = catalogue.get(provider).unwrap();
        let auth = provider.auth(None).unwrap();
        provider.test_request(auth, &map(variables), &map(shown))
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = request("activecampaign", &[], &[]).unwrap_err();
        assert!(error.to_string().contains("account"), "{error}");
    }

    #[test]
    fn a_shown_field_cannot_leave_its_segment() {
        let shown = [("account_sid", "a/../b?c")];
        let uri = request("twilio", &[], &shown).unwrap().unwrap().uri;
        assert!(uri.path().starts_with("/2010-04-01/Accounts/a%2F..%2Fb%3Fc/"), "{uri}");
    }

    #[test]
    fn the_other_hosts_of_a_test_get_the_same_request() {
        let aws = request("aws", &[], &[]).unwrap().unwrap();
        let hosts = aws.others.iter().filter_map(Uri::host).collect::<Vec<_>>();
        assert_eq!(hosts, ["sts.us-gov-west-1.amazonaws.com", "sts.cn-north-1.amazonaws.com.cn"]);
        for other in &aws.others {
            assert_eq!(other.path_and_query(), aws.uri.path_and_query());
        }
        let intuit = request("intuit", &[("realm_id", "78")], &[]).unwrap().unwrap();
        assert_eq!(
            intuit.others,
            ["https://sandbox-quickbooks.api.intuit.com/v3/company/78/companyinfo/78"]
        );
    }

    #[test]
    fn a_secret_field_in_the_test_url_is_always_a_placeholder() {
        let uri = request("telegram-bot", &[], &[("api_key", "canary")]).unwrap().unwrap().uri;
        assert!(!uri.path().contains("canary"));
        assert_eq!(placeholder::scan(uri.path().as_bytes()).len(), 1, "{uri}");
    }

    #[test]
    fn an_answer_with_a_good_status_and_an_error_body_is_not_accepted() {
        let slack = request("slack", &[], &[]).unwrap().unwrap().expected;
        assert!(slack.accepts_status(200) && slack.reads_body());
        for bad in ["", "{}", "[]", r#"{"ok":false}"#, r#"{"ok":"true"}"#] {
            assert!(!slack.is_met_by(bad.as_bytes()), "{bad}");
        }
        assert!(slack.is_met_by(br#"{"ok":true,"user":"u"}"#));
        let linear = request("linear", &[], &[]).unwrap().unwrap();
        assert!(!linear.expected.is_met_by(br#"{"errors":[{}]}"#));
        assert!(linear.expected.is_met_by(br#"{"data":{"viewer":{"id":"1"}}}"#));
        assert_eq!(&linear.body[..], br#"{"query":"{ viewer { id email } }"}"#);
    }

    #[test]
    fn an_account_is_reported_as_far_as_the_answer_names_it() {
        let expected = |of: &str| request(of, &[], &[]).unwrap().unwrap().expected;
        let slack = expected("slack");
        let told = |body: &str| slack.account(body.as_bytes());
        assert_eq!(told(r#"{"ok":true,"user":"bot","team":"Acme"}"#).as_deref(), Some("bot, Acme"));
        assert_eq!(told(r#"{"ok":true,"team":"Acme"}"#).as_deref(), Some("Acme"));
        for none in ["", "{}", "[]", r#"{"user":{"a":1}}"#, r#"{"user":""}"#, r#"{"user":null}"#] {
            assert_eq!(told(none), None, "{none}");
        }
        let numbered = expected("hubspot").account(br#"{"portalId":123}"#);
        assert_eq!(numbered.as_deref(), Some("123"));
        assert_eq!(
            expected("xero").account(br#"[{"tenantName":"Acme"}]"#).as_deref(),
            Some("Acme")
        );
        let missing = br#"{"ok":false,"error":"missing_scope","needed":"users:read,chat:write"}"#;
        assert_eq!(slack.needed(missing).unwrap(), ["users:read", "chat:write"]);
    }

    #[test]
    fn only_the_expected_status_is_accepted() {
        let github = request("github", &[], &[]).unwrap().unwrap();
        assert!(github.expected.accepts_status(200) && !github.expected.accepts_status(204));
        assert!(!github.expected.reads_body() && github.expected.reads_account());
        assert!(github.headers.contains_key("x-github-api-version"), "what its SDKs send");
        assert!(github.headers[header::USER_AGENT].to_str().unwrap().starts_with("keyward/"));
    }

    #[test]
    fn every_built_in_test_request_can_be_filled_in() {
        for provider in Catalogue::built_in().all() {
            let sample = |v: &crate::provider::Variable| match v.choices.first() {
                Some(choice) => choice.clone(),
                None if v.kind == crate::provider::VariableKind::Host => "git.own.test".to_owned(),
                None => "sample".to_owned(),
            };
            let variables: BTreeMap<_, _> =
                provider.variables.iter().map(|v| (v.name.clone(), sample(v))).collect();
            for auth in &provider.auth {
                let request = provider.test_request(auth, &variables, &BTreeMap::new());
                let request = request.unwrap_or_else(|error| panic!("{}: {error}", provider.id));
                assert!(request.is_none_or(|r| r.uri.scheme_str() == Some("https")), "{}", auth.id);
            }
        }
    }
}
