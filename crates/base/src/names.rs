//! [`named_enum!`](crate::names::named_enum): enums whose variants have a name, which is written once for JSON and for the code.

/// Makes an enum of named variants, and the method after `by`, which returns the name.
#[macro_export]
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident by $method:ident {
            $($(#[$of_variant:meta])* $variant:ident = $text:literal,)*
        }
    ) => {
        $(#[$meta])*
        $vis enum $name {
            $($(#[$of_variant])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// The stable name, as in JSON.
            $vis const fn $method(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}
pub use named_enum;
