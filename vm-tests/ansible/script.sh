#!/bin/sh
echo "$# arguments"
echo "$2"
