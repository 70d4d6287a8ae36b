//! What a person sees: the table, the list of images, printed reports, the progress line. The only writer of standard output beside [`crate::cli`].
