//! [`SignedChunks`]: signs the chunks of a body while it is sent, and counts the memory that they take.

use bytes::Bytes;

use super::body_error::BodyError;
use crate::limits::budget::BudgetShare;
use keyward_rules::inject::sign::aws_chunks::ChunkSigner;

/// Signs the chunks of one body.
#[derive(Debug)]
pub struct SignedChunks {
    signer: ChunkSigner,
    /// The memory of the incomplete chunk.
    share: BudgetShare,
}

impl SignedChunks {
    pub fn new(signer: ChunkSigner, share: BudgetShare) -> Self {
        Self { signer, share }
    }

    /// The chunks that `data` completes; none, often.
    pub fn push(&mut self, data: &Bytes) -> Result<Option<Bytes>, BodyError> {
        if !self.share.resize(self.signer.held() + data.len()) {
            return Err(BodyError::NoRoom);
        }
        let signed = self.signer.push(data)?;
        Ok((!signed.is_empty()).then(|| signed.into()))
    }

    /// Whether all chunks have passed.
    pub fn end(&self) -> Result<(), BodyError> {
        Ok(self.signer.end()?)
    }
}
