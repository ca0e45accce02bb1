//! Bodies of requests that add or change a resource: the members of its spec, and beside them secrets and options
//! that no record holds. They are one flat object, which is read twice, each time with other members hidden, so
//! that unknown members are refused and a secret is never held as plain JSON.

use std::fmt;
use std::marker::PhantomData;

use axum::extract::{FromRequest, Request};
use serde::de::value::StringDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use super::body::{body_of, misfit, refuse_list, said};
use super::error::ApiError;
use super::state::Admin;
use keyward_base::keys::Section;
use keyward_model::{Refusal, Resource, merge};
use keyward_rules::provider::decode::nearest;

/// What makes a new resource.
#[derive(Debug)]
pub(super) struct Input<R: Resource> {
    pub(super) spec: R::Spec,
    pub(super) with: R::With,
}

/// What changes a resource.
#[derive(Debug)]
pub(super) struct Change<R: Resource> {
    /// A merge patch (RFC 7396) of the spec.
    pub(super) patch: Map<String, Value>,
    pub(super) with: R::ChangeWith,
}

impl<R: Resource> Input<R> {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let beside = names::<R::With>();
        Ok(Self {
            spec: part(bytes, Part::Without(&beside))?,
            with: part(bytes, Part::Only(&beside))?,
        })
    }
}

impl<R: Resource> Change<R> {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let beside = names::<R::ChangeWith>();
        let patch: Map<String, Value> = part(bytes, Part::Without(&beside))?;
        let known = names::<R::Spec>();
        match patch.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(Self { patch, with: part(bytes, Part::Only(&beside))? }),
            Some(unknown) => Err(unknown_member(unknown, known.iter().chain(&beside).copied())),
        }
    }

    /// Whether the patch names the member, also where it says what is there already.
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
        serde_path_to_error::deserialize(members).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { String::new() } else { path };
            spec_misfit(field, &error.inner().to_string())
        })
    }
}

impl<R: Resource> FromRequest<Admin> for Input<R> {
    type Rejection = ApiError;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, ApiError> {
        Self::parse(&body_of(request, admin).await?)
    }
}

impl<R: Resource> FromRequest<Admin> for Change<R> {
    type Rejection = ApiError;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, ApiError> {
        Self::parse(&body_of(request, admin).await?)
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
    let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
    let message = format!("unknown field `{name}`, expected one of {}", known.join(", "));
    ApiError::field("", super::error::shown_long(&message))
}

/// A member of a spec that cannot be read. A spec holds no secret, so what its own types say of a value is
/// repeated; serde quotes the value itself, which tells nobody anything.
fn spec_misfit(field: String, message: &str) -> ApiError {
    let of_serde = ["invalid ", "unknown ", "missing ", "duplicate "];
    if !of_serde.iter().any(|start| message.starts_with(start)) {
        return ApiError::field(field, message);
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let given = words.next().filter(|_| message.starts_with("unknown variant"));
    let near = given.and_then(|given| nearest(given, words));
    let hint = near.map(|near| format!("did you mean `{near}`?"));
    ApiError::Field { field, message: said(message), hint }
}

/// The members of an object that are read.
#[derive(Clone, Copy)]
enum Part<'a> {
    Only(&'a [&'static str]),
    Without(&'a [&'static str]),
}

impl Part<'_> {
    fn has(self, name: &str) -> bool {
        match self {
            Self::Only(names) => names.contains(&name),
            Self::Without(names) => !names.contains(&name),
        }
    }
}

/// Reads those members of a JSON object.
fn part<T: DeserializeOwned>(bytes: &[u8], part: Part<'_>) -> Result<T, ApiError> {
    refuse_list(bytes)?;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let inner = serde_path_to_error::Deserializer::new(&mut reader, &mut track);
    let value = T::deserialize(Filtered { inner, part }).map_err(|error| {
        let path = track.path().to_string();
        let field = if path == "." { String::new() } else { path };
        match part {
            Part::Without(_) if error.is_data() => spec_misfit(field, &without_place(&error)),
            _ => misfit(field, &error),
        }
    })?;
    reader.end().map_err(|error| misfit(String::new(), &error))?;
    Ok(value)
}

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head).to_owned()
}

/// A deserializer of an object that hides some of its members.
struct Filtered<'a, D> {
    inner: D,
    part: Part<'a>,
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
    part: Part<'a>,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for FilteredVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(FilteredMap { map, part: self.part, of: PhantomData })
    }
}

struct FilteredMap<'a, 'de, A> {
    map: A,
    part: Part<'a>,
    of: PhantomData<&'de ()>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for FilteredMap<'_, 'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.map.next_key::<String>()? {
            if self.part.has(&name) {
                return seed.deserialize(StringDeserializer::new(name)).map(Some);
            }
            self.map.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
