"""Everything that touches PyAV: reading, timing, planning and writing of media files.

On the way in: `container` opens an input safely, `reader` demuxes and decodes it, `probe` describes
it, and `source` delivers frames that are deinterlaced (`deinterlace`), of one format (`convert`) and
correctly timed (`clock`), together with the packets of all other streams.
"""
