"""The commands of `certserve`, a module each: `add` puts one into the parser, with what runs it."""
