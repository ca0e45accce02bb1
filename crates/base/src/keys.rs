//! Descriptions of configuration keys: name, shape, default and meaning. Each is declared once, in the struct
//! that the key is read into.
//!
//! The macro [`section!`](crate::keys::section) wraps such a struct and implements [`Section`]. Key names come
//! from serde, so they are exactly those that are accepted; the meaning is the field's comment. A field without
//! a `#[key(…)]` does not compile. With an `#[option(…)]` it is also an option of the commands that add and change
//! the resource.

use serde::de::value::Error;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// A map in the configuration.
pub trait Section {
    /// The keys, in the order of the struct.
    fn keys() -> Vec<Key>;
}

/// One key of a section.
#[derive(Clone, Debug)]
pub struct Key {
    /// The name as written in YAML.
    pub name: &'static str,
    /// Which values are accepted.
    pub shape: Shape,
    /// The meaning: sentences, in Markdown.
    pub meaning: String,
    /// How commands take it; `None`: they do not, or by arguments of their own.
    pub option: Option<MemberOption>,
}

/// A member as an option of the commands that add and change its resource.
#[derive(Clone, Copy, Debug)]
pub struct MemberOption {
    /// Its name, without dashes.
    pub long: &'static str,
    /// What stands for its value in help: `ENV`; with a comma behind it, one value may be several. Empty: it has none,
    /// and means `true`.
    pub value: &'static str,
    /// In help: lower case, at most 80 characters.
    pub help: &'static str,
    /// The part of help that lists it.
    pub heading: Option<&'static str>,
    /// The option of changes that removes the member, or sets `false` where it means `true`; and its help.
    pub clear: Option<(&'static str, &'static str)>,
    pub commands: OptionCommands,
}

/// Which commands have an option.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OptionCommands {
    Both,
    /// Changes leave the member as it is, or have an argument of their own.
    Additions,
    /// Additions have an argument of their own.
    Changes,
}

/// What a value is in JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JsonKind {
    Text,
    Number,
    Flag,
    Texts,
    Numbers,
    Map,
}

/// Which values a key accepts.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A value of the described kind.
    Value(&'static str, Absent),
    /// One of the listed words.
    Choice(&'static [&'static str], Absent),
    /// A map with the listed keys.
    Map(fn() -> Vec<Key>),
    /// A list of maps with the listed keys.
    List(fn() -> Vec<Key>),
    /// A map with these keys, which a file describes.
    Members(&'static [Key]),
}

/// What applies when a key is absent.
#[derive(Clone, Copy, Debug)]
pub enum Absent {
    /// The same as this YAML value.
    Default(&'static str),
    /// No default; the meaning describes the behaviour.
    Nothing,
    /// The key is required.
    Required,
}

impl Shape {
    pub fn json(self) -> JsonKind {
        match self {
            // What only some items of a file can have is described as a value: a choice is one of each item.
            Self::Choice(["true", "false"], _) | Self::Value("`true` or `false`", _) => {
                JsonKind::Flag
            }
            Self::Choice(..) => JsonKind::Text,
            Self::Value(
                "number" | "bytes" | "count" | "count, 1 or more" | "count of bytes",
                _,
            ) => JsonKind::Number,
            Self::Value("list of statuses", _) => JsonKind::Numbers,
            Self::Value(kind, _) if kind.starts_with("list of ") => JsonKind::Texts,
            Self::Value(kind, _) if kind.starts_with("map of ") => JsonKind::Map,
            Self::Value(..) => JsonKind::Text,
            Self::Map(_) | Self::List(_) | Self::Members(_) => JsonKind::Map,
        }
    }

    /// What applies when the key is absent.
    pub fn absent(self) -> Absent {
        match self {
            Self::Value(_, absent) | Self::Choice(_, absent) => absent,
            Self::Map(_) | Self::List(_) | Self::Members(_) => Absent::Nothing,
        }
    }
}

/// Implements [`Section`] for a struct that serde reads. Each field has a comment, then one of
/// - `#[key("kind of value")]`, with `, "default"` or `, required`
/// - `#[key(one of ["a", "b"])]`, with `, "default"` or `, required`
/// - `#[key(map of Inner)]` or `#[key(list of Inner)]`, where `Inner` is a `section!` too
///
/// then, if it is a [`MemberOption`], `#[option("long", "VALUE", "help")]`, with `, under "heading"`,
/// `, clear "long" "help"`, `, only changes` or `, only additions`; then its attributes for serde, and those for schemars.
#[macro_export]
macro_rules! section {
    (
        $(#[$outer:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $meaning:literal])+
                #[key($($shape:tt)+)]
                $(#[option($($option:tt)+)])?
                $(#[serde($($serde:tt)*)])*
                $(#[schemars($($schemars:tt)*)])*
                $field_vis:vis $field:ident: $type:ty
            ),* $(,)?
        }
    ) => {
        $(#[$outer])*
        $vis struct $name {
            $(
                $(#[doc = $meaning])+
                $(#[serde($($serde)*)])*
                $(#[schemars($($schemars)*)])*
                $field_vis $field: $type,
            )*
        }

        impl $crate::keys::Section for $name {
            fn keys() -> Vec<$crate::keys::Key> {
                $crate::keys::named::<Self>(vec![$($crate::keys::Key {
                    name: "",
                    shape: $crate::keys::shape!($($shape)+),
                    meaning: concat!($($meaning),+).trim().to_owned(),
                    option: $crate::keys::member_option!($($($option)+)?),
                }),*])
            }
        }
    };
}
pub use section;

/// The arguments of `#[key(…)]`.
#[macro_export]
macro_rules! shape {
    (map of $inner:ty) => {
        $crate::keys::Shape::Map(<$inner as $crate::keys::Section>::keys)
    };
    (list of $inner:ty) => {
        $crate::keys::Shape::List(<$inner as $crate::keys::Section>::keys)
    };
    (one of [$($word:literal),+] $(, $absent:tt)?) => {
        $crate::keys::Shape::Choice(&[$($word),+], $crate::keys::absent!($($absent)?))
    };
    ($kind:literal $(, $absent:tt)?) => {
        $crate::keys::Shape::Value($kind, $crate::keys::absent!($($absent)?))
    };
}
pub use shape;

/// The last argument of `#[key(…)]`.
#[macro_export]
macro_rules! absent {
    () => {
        $crate::keys::Absent::Nothing
    };
    (required) => {
        $crate::keys::Absent::Required
    };
    ($default:literal) => {
        $crate::keys::Absent::Default($default)
    };
}
pub use absent;

/// The arguments of `#[option(…)]`.
#[macro_export]
macro_rules! member_option {
    () => {
        None
    };
    (
        $long:literal, $value:literal, $help:literal
        $(, under $heading:literal)?
        $(, clear $clear:literal $clear_help:literal)?
        $(, only $commands:ident)?
    ) => {
        Some($crate::keys::MemberOption {
            long: $long,
            value: $value,
            help: $help,
            heading: $crate::keys::optional!($($heading)?),
            clear: $crate::keys::optional!($(($clear, $clear_help))?),
            commands: $crate::keys::option_commands!($($commands)?),
        })
    };
}
pub use member_option;

/// What may be absent of `#[option(…)]`.
#[macro_export]
macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}
pub use optional;

/// The end of `#[option(…)]`.
#[macro_export]
macro_rules! option_commands {
    () => {
        $crate::keys::OptionCommands::Both
    };
    (additions) => {
        $crate::keys::OptionCommands::Additions
    };
    (changes) => {
        $crate::keys::OptionCommands::Changes
    };
}
pub use option_commands;

/// The fields of `T`, given in the struct's order, with the names that serde accepts.
pub fn named<T: DeserializeOwned>(fields: Vec<Key>) -> Vec<Key> {
    let mut names: &'static [&'static str] = &[];
    // Returns an error as soon as the names are known.
    drop(T::deserialize(Names(&mut names)));
    let key = |(name, field): (&&'static str, Key)| Key { name, ..field };
    names.iter().zip(fields).map(key).collect()
}

/// A deserializer that records the field names of a struct.
struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(de::Error::custom("only its names are wanted"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    section! {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "only its keys are looked at")]
        struct Outer {
            /// What it is called,
            /// in two lines.
            #[key("text", required)]
            #[option("use", "NAME", "its name", under "Names", only changes)]
            #[serde(rename = "use")]
            used: String,
            /// More.
            #[key(map of Inner)]
            inner: Option<Inner>,
        }
    }

    section! {
        #[derive(serde::Deserialize)]
        #[serde(default, rename_all = "UPPERCASE")]
        #[derive(Default)]
        #[allow(dead_code, reason = "only its keys are looked at")]
        struct Inner {
            /// Which.
            #[key(one of ["a", "b"], "a")]
            which: String,
        }
    }

    #[test]
    fn keys_have_the_names_that_serde_accepts_and_the_doc_comments() {
        let keys = Outer::keys();
        let shown: Vec<_> = keys.iter().map(|key| (key.name, &*key.meaning)).collect();
        assert_eq!(shown, [("use", "What it is called, in two lines."), ("inner", "More.")]);
        let option = keys[0].option.unwrap();
        assert_eq!((option.long, option.heading, option.clear), ("use", Some("Names"), None));
        assert!(option.commands == OptionCommands::Changes && keys[1].option.is_none());
        let Shape::Map(inner) = keys[1].shape else { panic!("a map") };
        assert_eq!(inner()[0].name, "WHICH");
        assert!(matches!(inner()[0].shape, Shape::Choice(["a", "b"], Absent::Default("a"))));
    }
}
