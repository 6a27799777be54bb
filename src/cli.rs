//! The verbs of the command line beside `serve`, one file each.

pub mod demo;
