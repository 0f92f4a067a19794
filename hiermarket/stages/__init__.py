"""One market stage a file: (market, earlier results) in, frozen result out."""
