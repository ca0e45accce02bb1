//! Credentials that Keyward makes of the owner's fields: sessions by a login that is data, tokens and requests that are
//! signed.

mod certificates;
mod logins;
mod signatures;
mod tokens;
