//! The release authority: what may ever run, as TUF 1.0 metadata.
