"""The same moments through several ways of enlarging: labelled pictures, videos and figures."""
