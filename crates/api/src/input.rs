//! Bodies of requests that add or change a resource: the members of its spec, and beside them secrets and options
//! that no record holds. They are one flat object, which is read twice, each time with other members hidden, so
//! that unknown members are refused and a secret is never held as plain JSON. Secrets that look like something else
//! than the keys of their provider are refused if the request asks for it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use axum::extract::{FromRequest, Request};
use serde::Deserialize;
use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use super::body::{body_of, misfit, refuse_list, said, with_missing};
use super::context::Context;
use super::error::{ApiError, shown_long};
use super::etag::IfMatch;
use super::state::Admin;
use keyward_base::keys::Section;
use keyward_base::secret::Secret;
use keyward_model::{Refusal, Resource, merge};
use keyward_rules::provider::decode::did_you_mean;
use keyward_rules::provider::pasted::{self, KeyShapes};

/// A spec, and what stands beside it.
#[derive(Debug)]
pub(super) struct SpecInput<S, W> {
    pub(super) spec: S,
    pub(super) options: W,
}

/// What makes a new resource.
#[derive(Debug)]
pub(super) struct Input<R: Resource> {
    pub(super) spec: R::Spec,
    pub(super) options: R::CreateOptions,
}

#[derive(Debug)]
pub(super) struct InputChange<R: Resource> {
    /// A merge patch (RFC 7396) of the spec.
    pub(super) patch: Map<String, Value>,
    pub(super) options: R::ChangeOptions,
    /// The version that is changed.
    pub(super) if_match: IfMatch,
}

impl<S: DeserializeOwned, W: DeserializeOwned + Section> SpecInput<S, W> {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let option_names = names::<W>();
        Ok(Self {
            spec: part(bytes, InputPart::Without(&option_names))?,
            options: part(bytes, InputPart::Only(&option_names))?,
        })
    }
}

impl<R: Resource> InputChange<R> {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let option_names = names::<R::ChangeOptions>();
        let patch: Map<String, Value> = part(bytes, InputPart::Without(&option_names))?;
        let known = names::<R::Spec>();
        match patch.keys().find(|key| !known.contains(&key.as_str())) {
            None => {
                let options = part(bytes, InputPart::Only(&option_names))?;
                Ok(Self { patch, options, if_match: IfMatch::default() })
            }
            Some(unknown) => {
                let refused = unknown_member(unknown, known.iter().chain(&option_names).copied());
                Err(changed_elsewhere::<R>(unknown, refused))
            }
        }
    }

    /// Adds a hint to the refusal if the patch removed a required member.
    fn required(&self, refused: ApiError) -> ApiError {
        let is_null = |field: &String| self.patch.get(field).is_some_and(Value::is_null);
        match matches!(&refused, ApiError::Field { field, hint: None, .. } if is_null(field)) {
            true => refused.hint("`null` removes a member, and this one is required"),
            false => refused,
        }
    }

    /// Whether the patch names the member, even with its present value.
    pub(super) fn names(&self, member: &str) -> bool {
        self.patch.contains_key(member)
    }

    /// The spec with the patch.
    ///
    /// # Errors
    /// With the member that is refused.
    pub(super) fn of(&self, before: &R::Spec) -> Result<R::Spec, ApiError> {
        let mut members = serde_json::to_value(before).map_err(ApiError::internal)?;
        merge(&mut members, Value::Object(self.patch.clone()));
        let body = serde_json::to_vec(&members).map_err(ApiError::internal)?;
        part(&body, InputPart::Without(&[])).map_err(|refused| self.required(refused))
    }
}

impl<S, W> FromRequest<Admin> for SpecInput<S, W>
where
    S: DeserializeOwned,
    W: DeserializeOwned + Section,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, ApiError> {
        Self::parse(&body_of(request, admin).await?)
    }
}

impl<R: Resource> FromRequest<Admin> for Input<R> {
    type Rejection = ApiError;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, ApiError> {
        Self::parse(&body_of(request, admin).await?)
    }
}

impl<R: Resource> Input<R> {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let given = SpecInput::parse(bytes).map_err(|refused| match &refused {
            ApiError::Field { field, message, .. } if message.starts_with("unknown field") => {
                changed_elsewhere::<R>(&field.clone(), refused)
            }
            _ => refused,
        });
        let SpecInput { spec, options } = given?;
        Ok(Self { spec, options })
    }
}

impl<R: Resource> FromRequest<Admin> for InputChange<R> {
    type Rejection = ApiError;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, ApiError> {
        let if_match = IfMatch::of(request.headers())?;
        Ok(Self { if_match, ..Self::parse(&body_of(request, admin).await?)? })
    }
}

impl From<Refusal> for ApiError {
    fn from(Refusal { field, rule, hint }: Refusal) -> Self {
        Self::Field { field: field.into_owned(), message: rule, hint }
    }
}

fn names<S: Section>() -> Vec<&'static str> {
    S::keys().into_iter().map(|key| key.name).collect()
}

fn unknown_member<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> ApiError {
    let known: Vec<_> = known.collect();
    let hint = did_you_mean(name, known.iter().copied());
    let known: Vec<_> = known.into_iter().map(|name| format!("`{name}`")).collect();
    let message = format!("unknown field `{name}`, expected one of {}", known.join(", "));
    ApiError::field(shown_long(name), shown_long(&message)).hint_if(hint)
}

/// The refusal of a member with what takes it, if that is known.
fn changed_elsewhere<R: Resource>(member: &str, refused: ApiError) -> ApiError {
    let found = R::CHANGED_ELSEWHERE.iter().find(|(name, _)| *name == member);
    match found {
        Some((_, hint)) => refused.hint(*hint),
        None => refused,
    }
}

/// Parses the unknown and the known names from an error of serde.
fn unknown_in(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    Some((names.next()?, names.collect()))
}

/// The refusal of an invalid member of a spec. A spec holds no secret, so messages of its own types are repeated.
/// Messages of serde are shortened, because they quote the value.
fn spec_misfit(field: String, message: &str) -> ApiError {
    let of_serde = ["invalid ", "unknown ", "missing ", "duplicate "];
    if !of_serde.iter().any(|start| message.starts_with(start)) {
        return ApiError::field(field, message);
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let given = words.next().filter(|_| message.starts_with("unknown variant"));
    let hint = given.and_then(|given| did_you_mean(given, words));
    let message = said(message);
    ApiError::field(with_missing(field, &message), message).hint_if(hint)
}

/// The members of an object that are read.
#[derive(Clone, Copy)]
enum InputPart<'a> {
    Only(&'a [&'static str]),
    Without(&'a [&'static str]),
}

impl InputPart<'_> {
    fn has(self, name: &str) -> bool {
        match self {
            Self::Only(names) => names.contains(&name),
            Self::Without(names) => !names.contains(&name),
        }
    }
}

/// Reads those members of a JSON object.
fn part<T: DeserializeOwned>(bytes: &[u8], part: InputPart<'_>) -> Result<T, ApiError> {
    refuse_list(bytes)?;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let inner = serde_path_to_error::Deserializer::new(&mut reader, &mut track);
    let value = T::deserialize(Filtered { inner, part }).map_err(|error| {
        let path = track.path().to_string();
        let field = if path == "." { String::new() } else { path };
        match part {
            InputPart::Without(option_names) if error.is_data() => {
                let message = without_place(&error);
                match unknown_in(&message) {
                    // What stands beside the spec is known as well.
                    Some((name, known)) if field == name => {
                        unknown_member(name, known.into_iter().chain(option_names.iter().copied()))
                    }
                    _ => spec_misfit(field, &message),
                }
            }
            _ => misfit(field, &error, bytes),
        }
    })?;
    reader.end().map_err(|error| misfit(String::new(), &error, bytes))?;
    Ok(value)
}

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head).to_owned()
}

/// A deserializer of an object that hides some of its members.
struct Filtered<'a, D> {
    inner: D,
    part: InputPart<'a>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Filtered<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(FilteredVisitor { visitor, part: self.part })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct FilteredVisitor<'a, V> {
    visitor: V,
    part: InputPart<'a>,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for FilteredVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(FilteredMap { map, part: self.part, seen: HashSet::new() })
    }
}

struct FilteredMap<'a, A> {
    map: A,
    part: InputPart<'a>,
    seen: HashSet<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for FilteredMap<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        mut seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        loop {
            let filtered = FilteredKey { seed, part: self.part, seen: &mut self.seen };
            match self.map.next_key_seed(filtered)? {
                None => return Ok(None),
                Some(InputKey::Read(key)) => return Ok(Some(key)),
                Some(InputKey::Hidden(again)) => {
                    self.map.next_value::<IgnoredAny>()?;
                    seed = again;
                }
            }
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Reads the name of a member, unless it is hidden.
struct FilteredKey<'a, K> {
    seed: K,
    part: InputPart<'a>,
    seen: &'a mut HashSet<String>,
}

enum InputKey<V, K> {
    Read(V),
    /// The seed is for the next one.
    Hidden(K),
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for FilteredKey<'_, K> {
    type Value = InputKey<K::Value, K>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let name = String::deserialize(deserializer)?;
        if !self.seen.insert(name.clone()) {
            return Err(D::Error::custom(format!("duplicate field `{name}`")));
        }
        match self.part.has(&name) {
            true => self.seed.deserialize(StringDeserializer::new(name)).map(InputKey::Read),
            false => Ok(InputKey::Hidden(self.seed)),
        }
    }
}

/// Refuses a secret that does not look like one of its field. Unknown providers, methods and fields are refused
/// elsewhere.
pub(super) fn check_key_formats(
    context: &Context,
    (provider, auth): (&str, Option<&str>),
    fields: &BTreeMap<String, Secret>,
) -> Result<(), ApiError> {
    let catalogue = context.deps().vault.catalogue(context.caller.org());
    let Some(provider) = catalogue.get(provider) else { return Ok(()) };
    let Some(auth) = provider.auth(auth) else { return Ok(()) };
    for (name, value) in fields {
        let Some(field) = auth.field(name).filter(|field| field.secret) else { continue };
        let wanted = KeyShapes::of(provider, auth, field);
        pasted::judge_secret(&catalogue, value, &wanted).map_err(|misfit| {
            ApiError::field("fields", format!("`{name}` {}", misfit.says)).hint(misfit.remedy)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use keyward_model::{App, User, Webhook};

    fn refused<R: Resource>(body: &Value) -> (String, String) {
        let bytes = body.to_string();
        let given = SpecInput::<R::Spec, R::CreateOptions>::parse(bytes.as_bytes());
        let Err(ApiError::Field { field, message, hint }) = given else { panic!("{body}") };
        (field, format!("{message} {}", hint.unwrap_or_default()))
    }

    #[test]
    fn an_unknown_member_of_spec_and_options_is_refused_by_name() {
        for body in [
            json!({"url": "https://a.test/", "state": "active"}),
            json!({"url": "https://a.test/", "paused": true}),
            json!({"url": "https://a.test/", "id": "whk_x"}),
            json!({"url": "https://a.test/", "nmae": "a", "signing_key": "x"}),
        ] {
            let (field, message) = refused::<Webhook>(&body);
            assert!(message.contains(&format!("unknown field `{field}`")), "{body}: {message}");
        }
        let (_, message) = refused::<Webhook>(&json!({"signing_key": "x"}));
        assert!(message.contains("missing field `url`"), "{message}");
    }

    #[test]
    fn a_secret_beside_the_members_of_an_app_is_refused_with_the_member_that_takes_it() {
        let body = br#"{"name":"a","provider":"github","client_id":"x","client_secret":"canary"}"#;
        let change = br#"{"client_secret":"canary"}"#;
        let refusals = [Input::<App>::parse(body).err(), InputChange::<App>::parse(change).err()];
        for refused in refusals {
            let Some(ApiError::Field { field, message, hint }) = refused else { panic!("taken") };
            assert_eq!(field, "client_secret");
            assert!(!message.contains("canary"), "{message}");
            assert!(hint.unwrap_or_default().contains("write it in `secrets`"), "{message}");
        }
    }

    #[test]
    fn a_misspelt_member_is_named_with_the_nearest_of_both_parts() {
        let (field, message) =
            refused::<Webhook>(&json!({"url": "https://a.test/", "signing_kee": "x"}));
        assert_eq!(field, "signing_kee");
        assert!(message.contains("`url`") && message.contains("`signing_key`"), "{message}");
        assert!(message.ends_with("did you mean `signing_key`?"), "{message}");
    }

    #[test]
    fn no_refusal_quotes_a_value_of_the_options() {
        for secret in [json!(["canary"]), json!({"a": "canary"}), json!(7_777_777)] {
            let body = json!({"url": "https://a.test/", "signing_key": secret});
            let (field, message) = refused::<Webhook>(&body);
            assert_eq!(field, "signing_key");
            assert!(!message.contains("canary") && !message.contains("7777777"), "{message}");
        }
        let twice = br#"{"url":"https://a.test/","signing_key":"canary","signing_key":"canary"}"#;
        let refused = Input::<Webhook>::parse(twice).unwrap_err();
        assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
    }

    #[test]
    fn a_body_that_is_not_an_object_is_refused() {
        for bad in ["[]", "\"canary\"", "7", "null", "", "{", "{} x"] {
            let refused = Input::<Webhook>::parse(bad.as_bytes()).unwrap_err();
            assert!(!format!("{refused:?}").contains("canary"), "{bad}: {refused:?}");
        }
    }

    #[test]
    fn a_member_of_a_wrong_type_is_named_by_its_path() {
        let body = json!({"name": "ann", "role": "admn"});
        let (field, message) = refused::<User>(&body);
        assert_eq!(field, "role");
        assert!(message.contains("did you mean `admin`?"), "{message}");
        let body = json!({"url": "https://a.test/", "events": ["connection.brokn"]});
        let (field, message) = refused::<Webhook>(&body);
        assert_eq!(field, "events");
        assert!(message.contains("did you mean `connection.broken`?"), "{message}");
    }

    #[test]
    fn an_input_is_split_into_spec_and_options() {
        let body = json!({"signing_key": "x", "url": "https://a.test/", "name": "ops"});
        let input = Input::<Webhook>::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!((&*input.spec.name, &*input.spec.url), ("ops", "https://a.test/"));
        assert!(input.options.signing_key.is_some() && input.spec.events.is_empty());
    }

    fn user(email: Option<&str>) -> <User as Resource>::Spec {
        let spec = json!({"name": "ann", "role": "member", "email": email});
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_patch_of_an_unknown_or_invalid_member_is_refused_by_name() {
        for bad in [json!({"nmae": "a"}), json!({"tokens": []}), json!({"role": null, "x": 1})] {
            let refused = InputChange::<User>::parse(bad.to_string().as_bytes()).unwrap_err();
            let ApiError::Field { field, message, .. } = refused else { panic!("{bad}") };
            assert!(message.contains(&format!("unknown field `{field}`")), "{bad}: {message}");
        }
        for twice in [r#"{"paused":true,"paused":false}"#, r#"{"x":1,"x":2}"#] {
            assert!(InputChange::<User>::parse(twice.as_bytes()).is_err(), "{twice}");
        }
        for (bad, member) in [
            (json!({"role": "admn"}), "role"),
            (json!({"role": ["admin"]}), "role"),
            (json!({"paused": "yes"}), "paused"),
            (json!({"email": {"a": 1}}), "email"),
        ] {
            let change = InputChange::<User>::parse(bad.to_string().as_bytes()).unwrap();
            let Err(ApiError::Field { field, .. }) = change.of(&user(None)) else {
                panic!("{bad}")
            };
            assert_eq!(field, member, "{bad}");
        }
        let change = InputChange::<User>::parse(br#"{"role":null}"#).unwrap();
        let refused = change.of(&user(None)).unwrap_err().text();
        assert_eq!(refused.message, "missing field `role`");
        assert!(refused.hint.is_some_and(|hint| hint.contains("this one is required")));
    }

    #[test]
    fn a_member_that_is_null_is_removed_and_an_absent_one_stays() {
        let patched = |patch: &str| {
            let change = InputChange::<User>::parse(patch.as_bytes()).unwrap();
            change.of(&user(Some("a@a.test"))).unwrap()
        };
        assert_eq!(patched("{}"), user(Some("a@a.test")));
        assert_eq!(patched(r#"{"email":null}"#), user(None));
        let paused = patched(r#"{"paused":true}"#);
        assert!(paused.paused && paused.email.as_deref() == Some("a@a.test"));
    }
}
