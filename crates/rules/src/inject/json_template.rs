//! [`JsonTemplate`]: JSON whose texts contain fields, such as the body of a login or the claims of a token.

use serde_json::{Map, Value};

use super::sign::SignError;
use super::sign::message::{MessageValues, SignedMessage};
use zeroize::Zeroizing;

/// JSON with fields in it.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonTemplate {
    /// A value without fields.
    Fixed(Value),
    /// A text with fields; a number if it is a time alone.
    Text(SignedMessage),
    List(Vec<JsonTemplate>),
    /// An object. Members whose optional fields have no value are omitted.
    Object(Vec<(String, JsonTemplate)>),
}

impl JsonTemplate {
    /// Parses the texts of `value`; `Err`: the text that is none.
    ///
    /// # Errors
    /// When a text has braces that do not pair.
    pub fn parse(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) if text.contains(['{', '}']) => {
                Self::Text(SignedMessage::parse(text).ok_or_else(|| text.clone())?)
            }
            Value::Array(items) => {
                Self::List(items.iter().map(Self::parse).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let parsed =
                    |(name, value): (&String, &Value)| Ok((name.clone(), Self::parse(value)?));
                Self::Object(members.iter().map(parsed).collect::<Result<_, String>>()?)
            }
            fixed => Self::Fixed(fixed.clone()),
        })
    }

    pub fn messages(&self) -> Vec<&SignedMessage> {
        match self {
            Self::Fixed(_) => Vec::new(),
            Self::Text(message) => vec![message],
            Self::List(items) => items.iter().flat_map(Self::messages).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, it)| it.messages()).collect(),
        }
    }

    /// The JSON as a value; for texts that are not secret, such as claims.
    ///
    /// # Errors
    /// When a field has no value or is not text.
    pub fn value(&self, values: &MessageValues<'_>) -> Result<Value, SignError> {
        Ok(match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(message) => {
                let bytes = message.render(values)?;
                let text = std::str::from_utf8(&bytes).map_err(|_| SignError::Unsignable)?;
                match text.parse::<i64>() {
                    Ok(number) if message.is_number() => number.into(),
                    _ => text.into(),
                }
            }
            Self::List(items) => {
                items.iter().map(|item| item.value(values)).collect::<Result<_, _>>()?
            }
            Self::Object(members) => {
                let mut object = Map::new();
                for (name, member) in members {
                    if !member.is_omitted(values) {
                        object.insert(name.clone(), member.value(values)?);
                    }
                }
                Value::Object(object)
            }
        })
    }

    /// The JSON as bytes, which are wiped.
    ///
    /// # Errors
    /// As [`JsonTemplate::value`].
    pub fn bytes(&self, values: &MessageValues<'_>) -> Result<Zeroizing<Vec<u8>>, SignError> {
        // Fields are at most 16 KiB each and mostly short: the buffer rarely grows.
        let mut out = Zeroizing::new(Vec::with_capacity(16 * 1024));
        self.write(values, &mut out)?;
        Ok(out)
    }

    fn write(
        &self,
        values: &MessageValues<'_>,
        out: &mut Zeroizing<Vec<u8>>,
    ) -> Result<(), SignError> {
        match self {
            Self::Text(message) if !message.is_number() => {
                let bytes = message.render(values)?;
                let text = std::str::from_utf8(&bytes).map_err(|_| SignError::Unsignable)?;
                serde_json::to_writer(&mut **out, text).map_err(|_| SignError::Unsignable)
            }
            Self::Fixed(_) | Self::Text(_) => {
                let value = self.value(values)?;
                serde_json::to_writer(&mut **out, &value).map_err(|_| SignError::Unsignable)
            }
            Self::List(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(values, out)?;
                }
                out.push(b']');
                Ok(())
            }
            Self::Object(members) => {
                out.push(b'{');
                let written = members.iter().filter(|(_, member)| !member.is_omitted(values));
                for (index, (name, member)) in written.enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    let name = serde_json::to_string(name).map_err(|_| SignError::Unsignable)?;
                    out.extend_from_slice(name.as_bytes());
                    out.push(b':');
                    member.write(values, out)?;
                }
                out.push(b'}');
                Ok(())
            }
        }
    }

    /// Whether it is a text of which no field has a value.
    fn is_omitted(&self, values: &MessageValues<'_>) -> bool {
        let Self::Text(message) = self else { return false };
        let mut fields = message.fields().peekable();
        fields.peek().is_some() && fields.all(|name| !values.fields.contains_key(name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keyward_base::secret::Secret;
    use serde_json::json;

    use super::*;

    fn both(template: &Value) -> Result<(Value, Value), SignError> {
        let fields = [("user", "a\"b"), ("site", "")];
        let fields: BTreeMap<String, Secret> =
            fields.map(|(k, v)| (k.to_owned(), Secret::from(v.to_owned()))).into();
        let now = "2023-01-02T03:04:05Z".parse().unwrap();
        let values =
            MessageValues { fields: &fields, request: None, now, nonce: "", signature: "" };
        let template = JsonTemplate::parse(template).unwrap();
        let bytes = template.bytes(&values)?;
        Ok((template.value(&values)?, serde_json::from_slice(&bytes).unwrap()))
    }

    #[test]
    fn braces_that_do_not_pair_are_refused() {
        assert_eq!(JsonTemplate::parse(&json!({ "a": ["{b"] })), Err("{b".to_owned()));
    }

    #[test]
    fn text_is_quoted_numbers_are_not_and_members_without_a_value_are_omitted() {
        let template = json!({ "u": "{user}", "in": { "s": "{site}", "o": "{other}" },
                               "list": ["x", 1, "{seconds}"], "t": true, "text": "{seconds}s" });
        let expected = json!({ "u": "a\"b", "in": { "s": "" }, "list": ["x", 1, 1_672_628_645],
                               "t": true, "text": "1672628645s" });
        assert_eq!(both(&template), Ok((expected.clone(), expected)));
        assert_eq!(both(&json!(["{other}"])), Err(SignError::FieldMissing));
    }
}
