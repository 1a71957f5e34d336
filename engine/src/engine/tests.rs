//! The engine as an embedder sees it.
