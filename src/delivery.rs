//! Gets reports accepted: what an error means, when to try again, what to say when all is done.
