"""The methods DWF is compared with, one short file each; dwfbench finds them as it would a third party's."""
