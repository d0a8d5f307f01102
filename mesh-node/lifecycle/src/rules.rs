//! The rules, one subject a file.

mod again;
mod anew;
mod attach;
mod clear;
mod containers;
mod drain;
mod end;
mod hosts;
mod make;
mod obtain;
mod recover;
mod seek;
mod settle;
mod standing;
mod timers;
mod undo;
mod upkeep;
mod view;
