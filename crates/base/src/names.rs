//! Enums whose variants have a name that is written once: [`named_enum!`](crate::names::named_enum) for the code and JSON,
//! [`labelled_enum!`](crate::names::labelled_enum) for the code alone.

/// Makes an enum of variants with a text, and the method after `by`, which returns the text. With `, all`, it has a list of
/// its variants too.
#[macro_export]
macro_rules! labelled_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident by $method:ident, all {
            $($(#[$of_variant:meta])* $variant:ident = $text:literal,)*
        }
    ) => {
        $crate::names::labelled_enum! {
            $(#[$meta])*
            $vis enum $name by $method { $($(#[$of_variant])* $variant = $text,)* }
        }

        impl $name {
            /// All of them, in the order of their declaration.
            $vis const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident by $method:ident {
            $($(#[$of_variant:meta])* $variant:ident = $text:literal,)*
        }
    ) => {
        $(#[$meta])*
        $vis enum $name {
            $($(#[$of_variant])* $variant,)*
        }

        impl $name {
            /// The stable name, as it is written.
            $vis const fn $method(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}
pub use labelled_enum;

/// The same for an enum that serde reads and writes by these names.
#[macro_export]
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident by $method:ident $(, $all:ident)? {
            $($(#[$of_variant:meta])* $variant:ident = $text:literal,)*
        }
    ) => {
        $crate::names::labelled_enum! {
            $(#[$meta])*
            $vis enum $name by $method $(, $all)? {
                $($(#[$of_variant])* #[serde(rename = $text)] $variant = $text,)*
            }
        }
    };
}
pub use named_enum;
