//! The envelope of a stored value, as code outside of `crypto` sees it: where a value belongs, and why it does not open.
//! Only the key ring seals and opens.

pub use keyward_envelope::{EnvelopeError, OVERHEAD, Place, is_same_sealing};
