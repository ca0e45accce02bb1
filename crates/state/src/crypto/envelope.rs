//! The envelope of a stored value, for code outside of `crypto`: the place of a value, and the error if it cannot be
//! opened. Only the keyring seals and opens.

pub use keyward_envelope::{EnvelopeError, OVERHEAD, Place, is_same_sealing};
